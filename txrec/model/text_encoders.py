"""Text encoder factory: the implementations by kind, and opening a saved encoder."""

import json
from pathlib import Path

from txrec.errors import BundleError
from txrec.model.hf_encoder import HuggingFaceEncoder
from txrec.model.subword_encoder import SubwordEncoder
from txrec.model.text_encoder import DESCRIPTION_FILE, FORMAT, TextEncoder

TEXT_ENCODERS: dict[str, type[TextEncoder]] = {
    SubwordEncoder.kind: SubwordEncoder,
    HuggingFaceEncoder.kind: HuggingFaceEncoder,
}


def open_text_encoder(folder: Path) -> TextEncoder:
    """The encoder saved in a folder, in evaluation mode.

    Raises:
        BundleError: the folder holds none, or one of another format.
    """
    file = folder / DESCRIPTION_FILE
    if not file.is_file():
        raise BundleError(f"{file}: no text encoder here; run `txrec pretrain CONFIG`")
    description = json.loads(file.read_text(encoding="utf-8"))
    if description.get("format") != FORMAT or description.get("kind") not in TEXT_ENCODERS:
        raise BundleError(
            f"{file}: format {description.get('format')!r}, kind {description.get('kind')!r}; this version reads"
            f" format {FORMAT} and kinds {', '.join(TEXT_ENCODERS)}; run `txrec pretrain CONFIG` again"
        )
    return TEXT_ENCODERS[description["kind"]].read(folder, description["settings"]).eval()
