"""What selections came to, kept beside the studies that their waves are."""

from sqlalchemy import Connection, delete, insert, select

from trueoracle.store.schema import meta
from trueoracle.words.selection import Selected, selected_from, selected_text

_KEY = "selection "


def keep_selection(connection: Connection, found: Selected) -> None:
    """In place of what the selection of this name came to before."""
    key = f"{_KEY}{found.name}"
    connection.execute(delete(meta).where(meta.c.key == key))
    connection.execute(insert(meta).values(key=key, value=selected_text(found)))


def kept_selections(connection: Connection) -> list[Selected]:
    """What all selections of the store came to, by name."""
    of_selections = select(meta.c.value).where(meta.c.key.startswith(_KEY)).order_by(meta.c.key)
    return [selected_from(text) for text in connection.execute(of_selections).scalars()]


def kept_selection(connection: Connection, name: str) -> Selected | None:
    """What the selection of this name came to; None where there is none."""
    text = connection.execute(select(meta.c.value).where(meta.c.key == f"{_KEY}{name}")).scalar()
    return None if text is None else selected_from(text)
