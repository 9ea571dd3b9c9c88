"""Retrieval model: item encoder, history decoder and a cosine head with temperature.

A saved model is a folder of `model.safetensors` (weights and the catalogue's frozen features) and `model.json`
(configuration and sizes): everything that rebuilds it, and no pickle.
"""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from txrec.config import ModelConfig
from txrec.data.prepared import PreparedData
from txrec.errors import BundleError
from txrec.model.batch import Batch
from txrec.model.history_decoder import HistoryDecoder
from txrec.model.item_encoder import CHUNK_ROWS, ItemEncoder, ItemFeatures, Sizes, normalise

FORMAT = 1


class RetrievalModel(nn.Module):
    """score(history, item) = state · item / temperature, both L2-normalised."""

    def __init__(self, cfg: ModelConfig, sizes: Sizes) -> None:
        super().__init__()
        self.cfg = cfg
        self.sizes = sizes
        self.encoder = ItemEncoder(cfg, sizes)
        self.decoder = HistoryDecoder(cfg, sizes.text_dim if cfg.use_text else 0, sizes.has_time)

    @classmethod
    def for_data(cls, cfg: ModelConfig, data: PreparedData, item_text: NDArray[np.float32] | None) -> "RetrievalModel":
        """A fresh model for a prepared data set.

        Args:
            cfg: the model's section.
            data: the data set whose catalogue it will know.
            item_text: (N + 1, Dt) text vectors, row 0 zeros; None = no text.
        """
        text = None if item_text is None or not cfg.use_text else item_text[1:]
        model = cls(cfg, Sizes.of(data.meta, 0 if text is None else text.shape[1]))
        model.encoder.load_features(ItemFeatures.from_table(data.items, text, data.meta.num_trained_items))
        return model

    def states(self, batch: Batch, items: Tensor | None = None) -> Tensor:
        """(B, L, D) L2-normalised states after each position.

        Args:
            batch: the histories.
            items: (N + 1, D) vectors of the catalogue where known already; otherwise only the needed ones are computed.
        """
        vectors = self.encoder(batch.item_idx) if items is None else nn.functional.embedding(batch.item_idx, items)
        return normalise(self.decoder(batch, vectors))

    def last_state(self, batch: Batch, items: Tensor | None = None) -> Tensor:
        """(B, D) L2-normalised state after the last position; zeros for an empty history. Arguments as of `states`."""
        vectors = self.encoder(batch.item_idx) if items is None else nn.functional.embedding(batch.item_idx, items)
        last = (batch.length - 1).clamp_min(0)
        state: Tensor = normalise(self.decoder(batch, vectors, last))[:, 0]
        return state * (batch.length > 0).unsqueeze(-1)

    def item_vectors(self) -> Tensor:
        """(N + 1, D) L2-normalised, row 0 zeros."""
        return normalise(self.encoder.all())

    def item_vectors_in_parts(self) -> Iterator[tuple[int, Tensor]]:
        """(first item, L2-normalised vectors from it on), part by part, of the whole catalogue."""
        size = self.sizes.num_items + 1
        for start in range(0, size, CHUNK_ROWS):
            yield start, normalise(self.encoder.part(start, min(start + CHUNK_ROWS, size)))

    @torch.no_grad()
    def encode_items(self, items: pa.Table, text: NDArray[np.float32] | None) -> Tensor:
        """(n, D) L2-normalised vectors of products that the model was not trained with.

        Args:
            items: n rows with category_idx, brand_idx and price_bucket as in schema.PREPARED_ITEMS.
            text: (n, Dt) text vectors; None only for a model without text.
        """
        text_vectors = text if self.encoder.use_text else np.zeros((items.num_rows, self.sizes.text_dim), np.float32)
        features = ItemFeatures.from_table(items, text_vectors, self.sizes.num_trained_items, all_cold=True)
        device = self.encoder.id_row.device
        moved = ItemFeatures(*(getattr(features, f.name).to(device) for f in dataclasses.fields(features)))
        return normalise(self.encoder.encode(moved))[1:]

    def save(self, path: Path) -> None:
        """Writes the model into a folder, creating it."""
        path.mkdir(parents=True, exist_ok=True)
        weights = {name: tensor.detach().cpu().contiguous() for name, tensor in self.state_dict().items()}
        save_file(weights, path / "model.safetensors")
        plain = {"format": FORMAT, "model": self.cfg.model_dump(mode="json"), "sizes": dataclasses.asdict(self.sizes)}
        (path / "model.json").write_text(json.dumps(plain, indent=2), encoding="utf-8")

    @classmethod
    def open(cls, path: Path) -> "RetrievalModel":
        """Reads the files of `save`, ready for inference.

        Raises:
            BundleError: the folder holds no such model, or one of another format.
        """
        description = path / "model.json"
        if not description.is_file():
            raise BundleError(
                f"{description}: not there; a retrieval model is a folder with model.json, run `txrec train`"
            )
        plain = json.loads(description.read_text(encoding="utf-8"))
        if plain["format"] != FORMAT:
            raise BundleError(f"{description}: format {plain['format']}, this version of txrec reads format {FORMAT}")
        model = cls(ModelConfig.model_validate(plain["model"]), Sizes(**plain["sizes"]))
        try:
            model.load_state_dict(load_file(path / "model.safetensors"))
        except RuntimeError as error:  # torch lists every tensor that is missing, left over or of another shape
            raise BundleError(
                f"{path / 'model.safetensors'}: not the weights that model.json describes: {error}"
            ) from None
        return model.eval()
