"""The masks in play: their pruned losses measured, those that a search is to add found, all kept in the store."""

from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from functools import lru_cache

from torch import nn

from trueoracle.data import Dataset
from trueoracle.executors import Executor, Stop
from trueoracle.oracle import Evaluator, PrunedLosses, evaluator
from trueoracle.search import ROWS, Budget, Hunt
from trueoracle.space import WeightSpace
from trueoracle.store import WEIGHT, Claim, Piece, Store
from trueoracle.study.chosen_weights import (
    criterion_masks,
    mask_of_rows,
    masks_of_ratios,
    masks_to_choose,
    stored_masks,
)
from trueoracle.study.mask_records import Judge, mask_records, mask_scores
from trueoracle.study.plan import Plan, PlannedCell
from trueoracle.study.searching import hunt_beside, question_of
from trueoracle.study.sharing import Sharing, in_pieces
from trueoracle.study.strata import first_phase, tail
from trueoracle.study.survey import in_groups, part_of, survey
from trueoracle.words.errors import SpecError
from trueoracle.words.examples import Examples
from trueoracle.words.progress import Advance, Progress, Quiet


@dataclass(frozen=True, kw_only=True)
class Masks:
    """Measures masks. A piece, as many as the oracle takes at once or a search, is spread over the threads of a worker.

    `paths` says which ways the oracle went in this process, with the reason where there is one.
    """

    plan: Plan
    bases: Sequence[nn.Module]
    data: Dataset
    store: Store
    executor: Executor
    progress: Progress
    paths: list[str] = field(default_factory=list)

    def take_part(self, ours: Sharing) -> tuple[PlannedCell, ...]:
        """The cells with all masks that are in play, once those are measured, by whichever worker."""
        self._measured(ours)
        self._of_cells(ours, "tails", self._without_tail, self._draw_tail)
        self._of_cells(ours, "searches", self._unsearched, self._search)
        self._of_cells(ours, "masks of weights", self._unchosen, self._choose)
        return tuple(self._with_found(cell) for cell in self.plan.cells)

    def _of_cells(
        self, ours: Sharing, stage: str, lacking: Callable[[PlannedCell], bool], work: Callable[[PlannedCell], None]
    ) -> None:
        """A stage whose pieces are the cells that lack something, and whose work stores what it finds."""
        cells = self.plan.cells

        def done(piece: Piece, _stop: Stop) -> None:
            if lacking(cells[piece.cell]):  # else whoever had the piece before stored it, and died
                work(cells[piece.cell])

        ours.stage(
            stage,
            missing=lambda: [Piece(cell=cell.index) for cell in cells if lacking(cell)],
            work=done,
            keep=lambda claim, _: self.store.settle(claim),
        )

    def _measured(self, ours: Sharing) -> None:
        left = {cell.index: len(places) for cell in self.plan.cells if (places := self._left(cell))}
        path = lru_cache(maxsize=1)(self._path)  # the last one: some are large
        known = lru_cache(maxsize=1)(self._known)
        # Asked before the pieces are listed: it takes its time, and nobody else can write to the store meanwhile.
        at_once = {index: path(index).masks_at_once for index in left}

        def missing() -> Iterator[Piece]:
            for index, step in at_once.items():
                yield from in_pieces(self._left(self.plan.cells[index]), step, index)

        bar = self.progress if left else Quiet()
        with bar.task("pruned train loss", sum(left.values()), "masks") as advance:

            def work(piece: Piece, _stop: Stop) -> list[PrunedLosses]:
                return self._losses(piece, path(piece.cell), known(piece.cell), advance)

            ours.stage("masks", missing, work, self._keep)

    def _known(self, index: int) -> AbstractSet[int]:
        return self.store.masks(self.plan.digest, index).keys()

    def _left(self, cell: PlannedCell) -> list[int]:
        """The places, among the cell's ranks, of masks that are not measured."""
        known = self._known(cell.index)
        return [place for place, rank in enumerate(cell.ranks) if rank not in known]

    def _path(self, index: int) -> Evaluator:
        cell = self.plan.cells[index]
        plan = self.plan
        return evaluator(self.bases[cell.base], cell.space, plan.shape, plan.spec.removal, progress=self.progress)

    def _losses(self, piece: Piece, path: Evaluator, known: AbstractSet[int], advance: Advance) -> list[PrunedLosses]:
        """Those of the piece's masks that are not known: it may reach over some that are."""
        cell = self.plan.cells[piece.cell]
        ranks = cell.ranks[piece.start : piece.stop]
        left = [rank for rank in ranks if rank not in known] if known else ranks
        self.paths.append(path.path)
        images, population = self._images(cell), len(self.data.train)
        return [*in_groups(path, left, images, self.executor, advance, population=population)]

    def _keep(self, claim: Claim, found: Sequence[PrunedLosses]) -> None:
        cell = self.plan.cells[claim.piece.cell]
        judge = self._judge(cell)
        for losses in found:
            records = mask_records(cell, losses.ranks, losses, judge, chosen=cell.named)
            self.store.put_masks(self.plan.digest, records, cell.digits)
        self.store.settle(claim)

    def _without_tail(self, cell: PlannedCell) -> bool:
        return cell.tail is not None and not self._tail(cell)

    def _tail(self, cell: PlannedCell) -> list[int]:
        return [rank for rank in self.store.tail(self.plan.digest, cell.index) if rank not in cell.named]

    def _draw_tail(self, cell: PlannedCell) -> None:
        """Draw masks stratified over the loss, and store them.

        Of the masks that are measured for that only those drawn are kept: a kill in between has all measured again.
        """
        assert cell.tail is not None
        assert cell.drawn is not None
        plan, store = self.plan, self.store
        seed, known = plan.seed(f"tail of cell {cell.name}", cell.base), store.evaluated(plan.digest, cell.index)
        others = sorted(set(first_phase(cell.of_units, cell.drawn, cell.tail.of, seed)) - set(cell.drawn))
        path, images, population = self._path(cell.index), self._images(cell), len(self.data.train)
        judged = list(survey(path, others, images, self.executor, self.progress, what=cell.name, population=population))
        losses = {rank: float(loss) for part in judged for rank, loss in zip(part.ranks, part.loss_M, strict=True)}
        losses |= {rank: known[rank][0] for rank in cell.drawn}
        chosen, weight = tail(losses, cell.drawn, cell.tail.masks, seed)
        judge = self._judge(cell)
        records = [
            replace(record, weight=weight[record.rank])
            for part in judged
            for record in mask_records(cell, part.ranks, part, judge, chosen={*chosen})
            if record.searched
        ]
        of_drawn = {rank: weight[rank] for rank in cell.drawn}
        store.add_scores(plan.digest, cell.index, WEIGHT, of_drawn, cell.digits)
        store.put_masks(plan.digest, records, cell.digits)

    def _unsearched(self, cell: PlannedCell) -> bool:
        if cell.search is None or isinstance(cell.space, WeightSpace):
            return False
        return len(self._searched(cell)) < cell.search.keep

    def _searched(self, cell: PlannedCell) -> list[int]:
        return [rank for rank in self.store.searched(self.plan.digest, cell.index) if rank not in cell.named]

    def _with_found(self, cell: PlannedCell) -> PlannedCell:
        if isinstance(cell.space, WeightSpace):
            return replace(cell, found=stored_masks(self.plan, cell, self.store) if masks_to_choose(cell) else ())
        tail = self._tail(cell) if cell.tail is not None else []
        found = self._searched(cell) if cell.search is not None else []
        return replace(cell, found=(*tail, *found))

    def _search(self, cell: PlannedCell) -> None:
        """Search, and store the masks to keep. What is measured already is known; a kill has the search begun anew."""
        assert cell.search is not None
        question = question_of(
            self.bases[cell.base], cell.of_units, self.data, self.progress,
            images=self._images(cell), removal=self.plan.spec.removal,
        )  # fmt: skip
        hunt = Hunt(
            method=cell.search.method,
            budget=Budget(evaluations=cell.search.evaluations),
            seed=self.plan.seed(f"search of cell {cell.name}", cell.base),
        )
        known = self.store.evaluated(self.plan.digest, cell.index)
        found = hunt_beside(known, question, hunt, self.executor, self.progress)
        self.progress.say(f"{cell.name}: {found.sentence}")
        there = {*(cell.drawn or ()), *self._with_found(cell).found}
        places = [place for place in found.order if found.ranks[place] not in there][: cell.search.keep]
        if len(places) < cell.search.keep:
            raise SpecError(
                f"the search of cell `{cell.name}` found {len(places)} masks beside the drawn ones, but `keep` is "
                f"{cell.search.keep}: give it more `evaluations`"
            )
        best = found.only(sorted(places, key=found.ranks.__getitem__))
        records = mask_records(cell, best.ranks, best, self._judge(cell), chosen={*best.ranks})
        self.store.put_masks(self.plan.digest, records, cell.digits)

    def _unchosen(self, cell: PlannedCell) -> bool:
        chosen = masks_to_choose(cell) if isinstance(cell.space, WeightSpace) else 0
        return chosen > 0 and len(stored_masks(self.plan, cell, self.store)) < chosen

    def _choose(self, cell: PlannedCell) -> None:
        """Ask the criteria of a cell of weights, and search; all chosen masks are stored together."""
        base, path, images = self.bases[cell.base], self._path(cell.index), self._images(cell)
        masks = criterion_masks(self.plan, cell, base, self.data)
        if cell.search is not None and cell.search.method == ROWS:
            masks.append(mask_of_rows(cell, path, images, self.executor, self.progress))
        elif cell.search is not None:
            masks += masks_of_ratios(self.plan, cell, base, self.data, self.progress)
        names, population = cell.of_weights.learn(masks), len(self.data.train)
        what = f"{cell.name}, chosen"
        found = survey(path, sorted(names), images, self.executor, self.progress, what=what, population=population)
        judge = self._judge(cell)
        records = [r for part in found for r in mask_records(cell, part.ranks, part, judge, chosen={*names})]
        self.store.put_masks(self.plan.digest, records, cell.digits)

    def _images(self, cell: PlannedCell) -> Examples:
        plan = self.plan
        return part_of(self.data.train, plan.spec.oracle_images, plan.seed("oracle images", cell.base))

    def _judge(self, cell: PlannedCell) -> Judge:
        return mask_scores(self.plan, cell, self.bases[cell.base])
