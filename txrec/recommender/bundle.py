"""The bundle: one directory with everything that answers requests, and the only thing that serving reads.

    candidate/
    ├── manifest.json      `Manifest`: version, fingerprints, sha256 of every other file, metrics, gate
    ├── model/             the retrieval model
    ├── text/              text encoder and vectors (absent where text.encoder = "none")
    ├── items.parquet      schema.PREPARED_ITEMS
    ├── queries.parquet    schema.PREPARED_QUERIES
    ├── analyser.json      the shop's text analyser: languages, words, synonyms
    ├── users.parquet      schema.SEQUENCES, each user's last events
    ├── profiles.parquet  schema.USERS, the users table (absent without one)
    ├── meta.json          sizes of the data set
    ├── index/NAME/        candidate sources
    ├── activity/          counts that features are made from
    ├── traffic.npz        the training log by day, for live drift (absent without times or with few days)
    ├── fatigue.json       factors of showings in vain, absent where no served slates taught them
    └── ranker/            absent where retrieval order is kept

It is written next to its place and renamed into it, so that a half-written bundle is never seen.
"""

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, ValidationError

from txrec import schema
from txrec.arrays import ragged_gather
from txrec.config import Config, fingerprint
from txrec.data.prepared import Meta, PreparedData, Sequences
from txrec.data.profiles import FILE as PROFILES_FILE
from txrec.data.profiles import StoredProfiles
from txrec.errors import BundleError
from txrec.index.rank_fusion import Fusion
from txrec.index.source import OpenContext, Source
from txrec.index.source_registry import SOURCES, source_names
from txrec.index.sources.profile_affinity import NAME as PROFILE
from txrec.model.ranker import Ranker
from txrec.model.retrieval import RetrievalModel
from txrec.model.text_encoder import TextEncoder, load_vectors
from txrec.model.text_encoders import open_text_encoder
from txrec.recommender.audience_model import AudienceRegressions
from txrec.recommender.ranking.activity import Activity
from txrec.recommender.retrieval.retriever import QueryEncoder
from txrec.storage import replace_folder
from txrec.text import Analyser
from txrec.text.analyser import FILE as ANALYSER_FILE

FORMAT = 2
MANIFEST = "manifest.json"
FATIGUE, AUDIENCE = "fatigue.json", "audience.json"


@dataclass(frozen=True)
class RankerDecision:
    """Decision about a ranker, with the inequality that decided."""

    keep: bool
    metric: str
    ranked: float
    retrieved: float
    num_requests: int
    reason: str

    def __str__(self) -> str:
        return self.reason


@dataclass(frozen=True, eq=False)
class Ranking:
    """Parts of a bundle next to model and data: fitted sources, counts, fusion weights and the ranker."""

    sources: Mapping[str, Source]
    activity: Activity
    fusion: Fusion
    ranker: Ranker | None
    decision: RankerDecision
    feature_names: tuple[str, ...]
    """Names of the ranker's features, candidates' and request's, in the order of its columns."""
    fatigue: tuple[float, ...] = ()
    """Factors on click probabilities after 0, 1, 2 ... showings in vain; empty = not known."""
    lineage: Mapping[str, Any] = field(default_factory=dict)
    """Origin of the history model, for the manifest: the fields of `txrec.train.warm_start.Lineage`."""
    files: Mapping[str, bytes] = field(default_factory=dict)
    """Further files of the bundle by name, such as the traffic profile."""


class Manifest(BaseModel):
    """Manifest of a bundle: version, settings, data, checksums and metrics."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: int = FORMAT
    version: str
    """Name of this bundle: time of writing and the configuration's fingerprint, until a registry gives it another."""
    created: str
    """ISO 8601, UTC."""
    config: dict[str, Any]
    """The configuration it was made with."""
    config_fingerprint: str
    data_fingerprint: str
    files: dict[str, str]
    """File name = sha256, for every file but this one."""
    fusion: dict[str, dict[str, float]]
    """Fitted source weights, `with_query` and `without_query`."""
    ranker: dict[str, Any]
    """The decision about the ranker."""
    features: tuple[str, ...]
    """Names of the ranker's features, candidates' and request's, in the order of its columns."""
    lineage: dict[str, Any] = {}
    """Full or warm training of the history model, and why; empty = full."""
    metrics: dict[str, Any] = {}
    """Test metrics, added when it is published."""
    gate: dict[str, Any] = {}
    """The promotion decision, added when it is published."""


@dataclass(frozen=True, eq=False)
class Bundle:
    """An opened bundle; parts are read at their first use."""

    path: Path
    manifest: Manifest

    @classmethod
    def open(cls, path: Path | str, verify: bool = True) -> "Bundle":
        """Opens a bundle and compares every file with its checksum.

        Raises:
            BundleError: no bundle here, another format, or a file that is missing or damaged (names it).
        """
        path = Path(path)
        bundle = cls(path, _manifest_in(path))
        if verify:
            bundle.verify()
        return bundle

    def check_features(self, names: Sequence[str]) -> None:
        """Compares the names of the ranker's features with those that this version of txrec computes.

        Raises:
            BundleError: they differ; names those that are missing, unknown or in another place.
        """
        stored = self.manifest.features
        if self.ranker is None or tuple(names) == stored:
            return
        missing, unknown = ([n for n in one if n not in other] for one, other in ((names, stored), (stored, names)))
        moved = next(
            (f"{old} where {new} is expected" for old, new in zip(stored, names, strict=False) if old != new), ""
        )
        parts = [("without", missing), ("with unknown", unknown)]
        text = ", ".join(f"{word} {', '.join(some)}" for word, some in parts if some) or f"in another order: {moved}"
        raise BundleError(
            f"{self.path / MANIFEST}: the ranker was trained on features {text}; train it again with this version of"
            " txrec (`txrec train CONFIG`)"
        )

    def verify(self) -> None:
        """Raises BundleError for the first file that does not have the manifest's checksum."""
        for name, expected in self.manifest.files.items():
            file = self.path / name
            if not file.is_file():
                raise BundleError(
                    f"{file}: missing, but the manifest lists it; copy the bundle again or publish it anew"
                )
            checksum = sha256(file)
            if checksum != expected:
                raise BundleError(
                    f"{file}: damaged, sha256 is {checksum[:12]}..., the manifest has {expected[:12]}...;"
                    " copy the bundle again or publish it anew"
                )

    @cached_property
    def config(self) -> Config:
        """The configuration that it was made with."""
        return Config.model_validate(self.manifest.config)

    @cached_property
    def meta(self) -> Meta:
        """Sizes and cuts of the data set."""
        return Meta.model_validate_json((self.path / "meta.json").read_text(encoding="utf-8"))

    @cached_property
    def items(self) -> pa.Table:
        """Catalogue, schema.PREPARED_ITEMS."""
        return pq.read_table(self.path / "items.parquet", schema=schema.PREPARED_ITEMS)

    @cached_property
    def users(self) -> Sequences:
        """Last events of every known user."""
        return Sequences.from_table(pq.read_table(self.path / "users.parquet"))

    @cached_property
    def profiles(self) -> StoredProfiles | None:
        """Properties and segments of users; None without a users table."""
        return StoredProfiles.read(self.path)

    @cached_property
    def model(self) -> RetrievalModel:
        """The retrieval model."""
        return RetrievalModel.open(self.path / "model")

    @cached_property
    def text_encoder(self) -> TextEncoder | None:
        """The text encoder, None where it is off."""
        return open_text_encoder(self.path / "text") if (self.path / "text").is_dir() else None

    @cached_property
    def item_text(self) -> "np.ndarray[Any, np.dtype[np.float32]] | None":
        """(N + 1, Dt) text vectors of the items, None without text."""
        return load_vectors(self.path / "text")[0] if self.text_encoder is not None else None

    @cached_property
    def queries(self) -> QueryEncoder:
        """Text vectors by query."""
        texts = pq.read_table(self.path / "queries.parquet").column("query").to_pylist()
        vectors = load_vectors(self.path / "text")[1] if self.text_encoder is not None else None
        return QueryEncoder(texts, vectors, self.text_encoder)

    @cached_property
    def sources(self) -> dict[str, Source]:
        """The candidate sources in order of trust."""
        import torch

        with torch.inference_mode():
            vectors = self.model.item_vectors().numpy()
        context = OpenContext(vectors, self.item_text, self.analyser)
        names = source_names(self.config.retrieval, (self.path / "index" / PROFILE).is_dir())
        return {name: SOURCES[name].open_source(self.path / "index" / name, context) for name in names}

    @cached_property
    def analyser(self) -> Analyser:
        """The shop's text analyser."""
        return Analyser.open(self.path / ANALYSER_FILE)

    @cached_property
    def fusion(self) -> Fusion:
        """Fitted source weights."""
        return Fusion(**self.manifest.fusion)

    @cached_property
    def activity(self) -> Activity:
        """Counts that features are made from."""
        return Activity.open(self.path / "activity")

    @cached_property
    def fatigue(self) -> tuple[float, ...]:
        """Factors on click probabilities after 0, 1, 2 ... showings in vain; empty = not known."""
        file = self.path / FATIGUE
        return tuple(json.loads(file.read_text(encoding="utf-8"))["factors"]) if file.is_file() else ()

    @cached_property
    def audience(self) -> AudienceRegressions | None:
        """Regressions that score users for audiences; None where none could be fitted."""
        file = self.path / AUDIENCE
        return AudienceRegressions.of_bytes(file.read_bytes()) if file.is_file() else None

    @cached_property
    def ranker(self) -> Ranker | None:
        """The ranker, None where retrieval order is kept."""
        return Ranker.open(self.path / "ranker") if (self.path / "ranker").is_dir() else None


def write(
    path: Path, config: Config, data: PreparedData, model: RetrievalModel, text_dir: Path | None, ranking: Ranking
) -> Bundle:
    """Writes a complete bundle to `path`, replacing one that is there.

    Args:
        path: the bundle's directory.
        config: settings of the run that made it.
        data: the prepared data set; its catalogue, queries and users' last events go into the bundle.
        model: the trained retrieval model.
        text_dir: checkpoint of the text encoder with its vectors; None where the encoder is off.
        ranking: what `txrec.train.ranker.fit.fit` returned.
    """
    with replace_folder(path) as folder:
        _write_data(folder, config, data)
        model.save(folder / "model")
        if text_dir is not None:
            shutil.copytree(text_dir, folder / "text", ignore=shutil.ignore_patterns("*.pt", "resume*"))
        for name, source in ranking.sources.items():
            source.save(folder / "index" / name)
        ranking.activity.save(folder / "activity")
        if ranking.ranker is not None:
            ranking.ranker.save(folder / "ranker")
        for name, content in ranking.files.items():
            (folder / name).write_bytes(content)
        if ranking.fatigue:
            (folder / FATIGUE).write_text(json.dumps({"factors": list(ranking.fatigue)}), encoding="utf-8")
        _write_manifest(folder, _manifest(folder, config, data, ranking))
    return Bundle.open(path, verify=False)


def publish_copy(
    source: Path, target: Path, version: str, metrics: Mapping[str, Any], gate: Mapping[str, Any]
) -> Bundle:
    """Copies a verified bundle under a new version, with its test metrics and the gate's decision in the manifest."""
    bundle = Bundle.open(source)
    added = {"version": version, "metrics": dict(metrics), "gate": dict(gate)}
    with replace_folder(target) as folder:
        shutil.copytree(source, folder, dirs_exist_ok=True)
        _write_manifest(folder, bundle.manifest.model_copy(update=added))
    return Bundle.open(target, verify=False)


def sha256(file: Path) -> str:
    """Hex digest of a file's bytes."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _manifest_in(path: Path) -> Manifest:
    file = path / MANIFEST
    if not file.is_file():
        raise BundleError(
            f"{path}: no bundle here ({MANIFEST} is missing); run `txrec train CONFIG` or `txrec publish CONFIG`"
        )
    return read_manifest(file)


def read_manifest(file: Path) -> Manifest:
    """Reads a manifest.

    Raises:
        BundleError: it is none of this version of txrec, or of another format.
    """
    try:
        manifest = Manifest.model_validate_json(file.read_text(encoding="utf-8"))
    except ValidationError as error:
        raise BundleError(f"{file}: not a manifest of this version of txrec: {error.errors()[0]['msg']}") from None
    if manifest.format != FORMAT:
        raise BundleError(f"{file}: format {manifest.format}, this version of txrec reads format {FORMAT}")
    return manifest


def _write_data(path: Path, config: Config, data: PreparedData) -> None:
    pq.write_table(data.items, path / "items.parquet")
    pq.write_table(data.queries, path / "queries.parquet")
    pq.write_table(_last_events(data.sequences, 4 * config.model.max_length), path / "users.parquet")
    if data.profiles is not None:
        pq.write_table(data.profiles.table, path / PROFILES_FILE)
    data.analyser.save(path / ANALYSER_FILE)
    (path / "meta.json").write_text(data.meta.model_dump_json(indent=2), encoding="utf-8")


def _last_events(sequences: Sequences, count: int) -> pa.Table:
    """schema.SEQUENCES with the last `count` events of every user."""
    ends = sequences.offsets[1:]
    starts = np.maximum(sequences.offsets[:-1], ends - count)
    lengths = ends - starts
    take = ragged_gather(starts, lengths)
    offsets = pa.array(np.append(0, np.cumsum(lengths)).astype(np.int32))
    columns: dict[str, pa.Array] = {"user_id": pa.array(sequences.user_id, pa.string())}
    for name in schema.SEQUENCES.names[1:]:
        columns[name] = pa.ListArray.from_arrays(offsets, pa.array(getattr(sequences, name)[take]))
    return pa.table(columns).cast(schema.SEQUENCES)


def _manifest(path: Path, config: Config, data: PreparedData, ranking: Ranking) -> Manifest:
    created = datetime.now(UTC)
    made_with = config.model_dump(mode="json", exclude={"runs_root": True, "data": {"root"}})  # places are not identity
    identity = fingerprint(made_with)
    files = {str(file.relative_to(path)): sha256(file) for file in sorted(path.rglob("*")) if file.is_file()}
    return Manifest(
        version=f"{created:%Y%m%dT%H%M%S}-{identity[:8]}",
        created=created.isoformat(timespec="seconds"),
        config=made_with,
        config_fingerprint=identity,
        data_fingerprint=data.meta.fingerprint,
        files=files,
        fusion={
            "with_query": dict(ranking.fusion.with_query),
            "without_query": dict(ranking.fusion.without_query),
        },
        ranker=dict(ranking.decision.__dict__),
        features=ranking.feature_names,
        lineage=dict(ranking.lineage),
    )


def _write_manifest(path: Path, manifest: Manifest) -> None:
    (path / MANIFEST).write_text(manifest.model_dump_json(indent=2), encoding="utf-8")
