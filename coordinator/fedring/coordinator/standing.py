"""What a coordinator stands on before its first round: files read and checked, state opened."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from attrs import define, field
from phe import PaillierPrivateKey

from fedring.coordinator.conclusion import Evaluate
from fedring.coordinator.settings import CoordinatorSettings
from fedring.coordinator.settings import Model as ModelSettings
from fedring.coordinator.store import CoordinatorStore
from fedring.coordinator.tables import NEW_EPOCH, key_file
from fedring.shared import networks
from fedring.shared.contributions import n_values
from fedring.shared.credentials import Credentials
from fedring.shared.encryption import SUITES, generate_key, max_values
from fedring.shared.encryption.keyfile import load_key, save_key
from fedring.shared.errors import CertificateError, ConfigError, PeerError
from fedring.shared.identity import Authority, RevocationList, Role
from fedring.shared.litert import Computation
from fedring.shared.models import Model
from fedring.shared.samples import Dataset, read_samples


@define(eq=False)
class Standing:
    """Identity, state, keys and data of a running coordinator.

    Attributes:
        credentials: own identity, and the fleet authority.
        store: the state folder, held by this process.
        revocation: the newest list of the fleet authority.
        revocation_raw: the same as it travels.
        key: the Paillier key pair of this epoch.
        evaluation: own data to evaluate models on, if any.
        evaluate: computes the model on it.
    """

    credentials: Credentials
    store: CoordinatorStore
    revocation: RevocationList
    revocation_raw: bytes = field(repr=False)
    key: PaillierPrivateKey = field(repr=False)
    evaluation: Dataset | None = field(repr=False)
    evaluate: Evaluate = networks.evaluate

    def refresh(self, settings: CoordinatorSettings) -> bool:
        """Take a newer revocation list from the file, if there is one; tells whether there was.

        A list with a higher epoch begins that epoch, with a Paillier key of its own.

        Raises:
            UserError: the file is damaged, or goes back.
        """
        raw = _read_list(settings)
        if raw == self.revocation_raw:
            return False
        newer = _verified(settings, self.credentials.authority, raw)
        if newer.number <= self.revocation.number:
            return False
        self.store.enter_epoch(newer.epoch)
        if newer.epoch != self.revocation.epoch:
            self.key = _key(settings, newer.epoch)
        self.revocation, self.revocation_raw = newer, raw
        return True


@contextmanager
def prepare(settings: CoordinatorSettings) -> Iterator[Standing]:
    """Load and check all that a coordinator needs; the state folder is let go at the end.

    Raises:
        UserError: naming the file and what to do.
    """
    credentials = Credentials.load(settings.fleet, Role.COORDINATOR)
    raw = _read_list(settings)
    revocation = _verified(settings, credentials.authority, raw)
    evaluation = None
    model = settings.model
    if settings.evaluation is not None:
        evaluation = read_samples(
            settings.evaluation.file,
            model.features,
            model.classes,
            label=settings.evaluation.label,
        )
    first, evaluate = _first(model)
    _check_length(first, settings.ring.suite)
    with CoordinatorStore.open_to_run(
        settings.state.folder, fleet=credentials.identity.fleet
    ) as store:
        store.enter_epoch(revocation.epoch)
        key = _key(settings, revocation.epoch)
        _begin(store, first)
        yield Standing(credentials, store, revocation, raw, key, evaluation, evaluate)


def _begin(store: CoordinatorStore, described: Model) -> None:
    """Store the first model, or see that what was learned is of the model that is described."""
    current = store.current_version()
    if current is None or (current.task == "initial" and current.digest != described.digest):
        store.commit_initial(described)
        return
    if _shape(store.model(current)) != _shape(described):
        raise ConfigError(
            f"{store.database.path} holds another model than [model] describes: "
            "kind, features, classes or layers differ",
            name="config.model-changed",
            hint="put [model] back; or, for a new model, give [state] a new folder and run "
            f"{NEW_EPOCH}",
        )


def _shape(model: Model) -> tuple[object, ...]:
    layers = [model.arrays[name].shape for name in model.trained]
    return model.kind, model.features, model.classes, layers


def _first(model: ModelSettings) -> tuple[Model, Evaluate]:
    """The untrained model, and what computes it."""
    try:
        if model.litert is not None:
            computation = Computation.load(model.litert)
            first = computation.initial(model.features, model.classes, model.ranges)
            return first, computation.evaluate
        first = networks.initialise(
            model.kind,
            model.features,
            model.classes,
            hidden=model.layers,
            seed=model.seed,
            ranges=model.ranges,
        )
        return first, networks.evaluate
    except ValueError as error:
        raise ConfigError(
            f"the model described in [model] cannot be: {error}", name="config.bad-value"
        ) from error


def _check_length(model: Model, suite: str) -> None:
    length, most = n_values(model.n_weights), max_values(suite)
    if length > most:
        raise ConfigError(
            f"the model in [model] is too large for suite {suite}: {length:,} values instead of "
            f"{most:,} at most",
            name="config.bad-value",
            hint=f'[ring] suite = "{SUITES[0]}", or a smaller model',
        )


def _read_list(settings: CoordinatorSettings) -> bytes:
    path = settings.fleet.revoked
    try:
        return path.read_bytes()
    except OSError as error:
        raise CertificateError(
            f"{path}: cannot be read: {error.strerror}",
            name="certificate.missing",
            hint="copy the newest list that `fedring fleet` wrote",
        ) from error


def _verified(settings: CoordinatorSettings, authority: Authority, raw: bytes) -> RevocationList:
    try:
        return authority.revocation(raw)
    except PeerError as fault:
        raise CertificateError(
            f"{settings.fleet.revoked}: {fault.reason}",
            name="certificate.damaged",
            hint="copy the newest list that `fedring fleet` wrote",
        ) from fault


def _key(settings: CoordinatorSettings, epoch: int) -> PaillierPrivateKey:
    path: Path = key_file(settings.state.folder, epoch)
    if path.exists():
        return load_key(path)
    key = generate_key(settings.ring.key_bits, random=os.urandom)
    save_key(key, path)
    return key
