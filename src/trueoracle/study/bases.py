"""The base networks of a study: given or trained, kept in the store, and taken from there by whoever works on."""

from dataclasses import asdict, dataclass
from time import monotonic

from torch import nn

from trueoracle.data import Dataset
from trueoracle.executors import Stop
from trueoracle.fleet import Backend, evaluated, train_alone
from trueoracle.nets import classes_of, cost, state_bytes, weights_from_bytes
from trueoracle.store import BaseRecord, Claim, Piece, Store
from trueoracle.study.plan import Plan, base_data
from trueoracle.study.retrain import kept_answers
from trueoracle.study.sharing import Sharing
from trueoracle.words.errors import StoreError
from trueoracle.words.folders import checkpoint_folder
from trueoracle.words.progress import Progress
from trueoracle.words.trial import Outcome


@dataclass(frozen=True, kw_only=True)
class Bases:
    """Makes the base networks that the store does not have yet. A piece is one of them."""

    plan: Plan
    data: Dataset
    store: Store
    progress: Progress
    backend: Backend

    def take_part(self, ours: Sharing) -> list[nn.Module]:
        """All base networks, made by whichever worker."""
        ours.stage("base networks", self._missing, self._work, self._keep)
        return [self._stored(number) for number in range(len(self.plan.nets))]

    def _missing(self) -> list[Piece]:
        numbers = range(len(self.plan.nets))
        return [Piece(cell=number) for number in numbers if self.store.base(self.plan.digest, number) is None]

    def _work(self, piece: Piece, _stop: Stop) -> BaseRecord:
        return make_base(self.plan, piece.cell, self.data, self.backend, self.progress)

    def _keep(self, claim: Claim, record: BaseRecord) -> None:
        self.store.put_base(self.plan.digest, record)
        self.store.settle(claim)

    def _stored(self, number: int) -> nn.Module:
        record = self.store.base(self.plan.digest, number)
        assert record is not None
        if record.data_fingerprint != self.data.fingerprint:
            raise StoreError(
                f"the study was begun on other data than `{self.plan.spec.data}` holds now "
                f"(fingerprint {record.data_fingerprint[:12]}, not {self.data.fingerprint[:12]})"
            )
        net = self.plan.nets[number]
        weights_from_bytes(net, record.weights, "of the stored base network")
        return net.to(self.data.device)


def make_base(plan: Plan, number: int, data: Dataset, backend: Backend, progress: Progress) -> BaseRecord:
    """A base network trained, or with the weights that are given, evaluated; nothing is stored."""
    begin = monotonic()
    net = plan.nets[number].to(data.device)
    recipe = plan.spec.train
    if plan.spec.base_weights is None and recipe is not None:
        which = "the base network" if len(plan.nets) == 1 else f"base network {number + 1} of {len(plan.nets)}"
        with progress.task(f"training {which}", recipe.epochs, "epochs") as advance:
            seed = plan.seed("base order", number)
            trained = train_alone(
                net, base_data(plan, data), recipe, seed, on_epoch=advance, backend=backend, progress=progress,
                checkpoints=checkpoint_folder(),
            )  # fmt: skip
        net = trained.net
        if trained.outcome is not Outcome.FINISHED:
            raise StoreError(f"the base network {trained.outcome.value}: lower `train.lr`")
    now, costs = evaluated(net, data), cost(net, plan.shape)
    return BaseRecord(
        base=number,
        weights=state_bytes(net),
        **asdict(now.figures),
        answers=kept_answers(now.answers, plan.spec),
        parameters=costs.parameters,
        macs=costs.macs,
        classes=classes_of(net, plan.shape),
        data_fingerprint=data.fingerprint,
        seconds=monotonic() - begin,
    )
