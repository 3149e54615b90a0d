"""Text vectors: each distinct text is encoded once, by RunInference, with the frozen BERT encoder."""

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import apache_beam as beam
from apache_beam.ml.inference.base import ModelHandler, RunInference

from pipelines import progress
from pipelines.kept import FromCache

if TYPE_CHECKING:
    from tfrs_shop.text.minilm import EncoderHandles


class TextModelHandler(ModelHandler[str, tuple[str, list[float]], Any]):
    """Encodes batches of texts; a worker loads the encoder once.

    Args:
        handles: the preprocessor and the encoder, TF-Hub handles or paths.
        sequence_length: word pieces that are read of a text; the rest is cut off.
    """

    def __init__(self, handles: "EncoderHandles", sequence_length: int):
        super().__init__()
        self.handles = handles
        self.sequence_length = sequence_length

    def load_model(self) -> Any:
        """Return the function that encodes a list of texts."""
        import functools

        from tfrs_shop.text import encode_texts

        progress.NOW.begin_encoding()
        return functools.partial(encode_texts, handles=self.handles, sequence_length=self.sequence_length)

    def run_inference(
        self, batch: Sequence[str], model: Any, inference_args: dict[str, Any] | None = None
    ) -> Iterable[tuple[str, list[float]]]:
        """Return ``(text, vector)`` for each text of `batch`."""
        vectors = model(list(batch)).tolist()
        progress.NOW.encoded += len(batch)
        return zip(batch, vectors, strict=True)

    def batch_elements_kwargs(self) -> dict[str, Any]:
        """Return large batches: texts of like length are encoded together within one."""
        return {"min_batch_size": 256, "max_batch_size": 1024}

    def get_metrics_namespace(self) -> str:
        """Return the name under which RunInference counts."""
        return "tfrs_shop_text"


class EncodeTexts(beam.PTransform):
    """From texts (repeats allowed) to ``(text, vector)`` of each distinct one.

    Args:
        handles: the preprocessor and the encoder.
        sequence_length: word pieces that are read of a text.
        cached: ``(text, vector)`` of texts that are not to be encoded again, by the same encoder; each text once.
    """

    def __init__(self, handles: "EncoderHandles", sequence_length: int, cached: Any = None):
        super().__init__()
        self.handles = handles
        self.sequence_length = sequence_length
        self.cached = cached

    def expand(self, pcoll: Any) -> Any:
        """Encode the texts."""
        if self.cached is None:
            return self._encoded(pcoll | "DistinctTexts" >> beam.Distinct())
        asked = pcoll | "Asked" >> beam.Map(lambda text: (text, None))
        found = (
            {"asked": asked, "cached": self.cached}
            | "GroupWithCached" >> beam.CoGroupByKey()
            | "FromCache" >> beam.ParDo(FromCache()).with_outputs("new", main="main")
        )
        return (found.main, self._encoded(found.new)) | "CachedAndNew" >> beam.Flatten()

    def _encoded(self, texts: Any) -> Any:
        return (
            texts
            | "CountTexts" >> beam.Map(progress.found_text).with_output_types(str)
            | "Spread" >> beam.Reshuffle()
            | "Bert" >> RunInference(TextModelHandler(self.handles, self.sequence_length))
        )


def attach_vectors(
    element: tuple[str, dict[str, Iterable[Any]]],
) -> Iterator[dict[str, Any]]:
    """Yield each row that has the text, with the text's vector."""
    _, groups = element
    vector = next(iter(groups["vectors"]))
    for row in groups["rows"]:
        yield {**row, "text_vector": vector}
