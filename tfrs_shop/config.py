"""The settings of a model and its training, as typed dataclasses read from YAML (``tfrs-shop train --config FILE``)."""

import dataclasses
from importlib import resources
from pathlib import Path
from typing import Literal

from tfrs_shop.errors import UserError, suggest
from tfrs_shop.settings import load_yaml


@dataclasses.dataclass(frozen=True)
class TowerConfig:
    """Sizes and regularisation of the two towers.

    Attributes:
        width: length of a product vector and of a query vector.
        layers: transformer blocks of the query tower.
        heads: attention heads of a block.
        dropout: in the transformer and on its input.
        text_dropout: on the text vector.
        id_dropout: share of products whose id embedding and popularity are left out in a training step, so that the
            model learns to do without: a new product has neither.
        max_history: events of a history that the query tower reads, the newest.
        ids: whether the product tower uses its id embedding.
        text: whether it uses its text vector.
        words: whether it uses its words.
        attributes: whether it uses its category, brand and numbers.
        fusion: how the product tower joins its parts: their ``sum``, or the sum and a ``cross`` network over them
            (DCN V2, Wang et al., WWW 2021).
        recency: whether the query tower uses the times between events.
        behavior_text: whether it uses the mean text vector of the history.
        profile: whether it uses the user's attributes.
        repeats: learn how much likelier, or less likely, a product of the history is to come again.
        normalize: scores are cosines divided by the temperature; else dot products.
    """

    width: int = 192
    layers: int = 2
    heads: int = 2
    dropout: float = 0.5
    text_dropout: float = 0.2
    id_dropout: float = 0.2
    max_history: int = 20
    ids: bool = True
    text: bool = True
    words: bool = True
    attributes: bool = True
    fusion: Literal["sum", "cross"] = "sum"
    recency: bool = True
    behavior_text: bool = True
    profile: bool = True
    repeats: bool = True
    normalize: bool = True

    def __post_init__(self) -> None:
        for name in ("width", "heads", "max_history"):
            if getattr(self, name) < 1:
                raise ValueError(f"towers: {name} must be at least 1")
        for name in ("dropout", "text_dropout", "id_dropout"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ValueError(f"towers: {name} {getattr(self, name)} must be at least 0 and below 1")
        if self.width % self.heads:
            raise ValueError(f"towers: width {self.width} must be a multiple of heads {self.heads}")


@dataclasses.dataclass(frozen=True)
class RetrievalConfig:
    """The retrieval loss.

    Attributes:
        loss: ``full_softmax`` over all products; ``in_batch`` softmax over the targets of the batch;
            ``sampled_softmax`` over products that are drawn for the batch; or ``auto``: full up to 50,000 products
            and with a frozen text encoder, else in-batch.
        temperature: divides the scores where they are cosines.
        label_smoothing: share of the label spread over all products (full softmax).
        negatives: sampled: products that are drawn for a batch.
        sampling: sampled: whether products are drawn evenly, or by their number of training events.
        logq: in-batch and sampled: correct for some products being drawn more often than others.
        remove_accidental_hits: in-batch and sampled: a position's own target among the others is no negative.
        hard_negatives: in-batch and sampled: products nearest to each query that are negatives of the batch as well,
            except a position's target, what its user went on to and, where repeats are learned, the history; 0: none.
            Full softmax has them all.
        mined_every: steps between renewals of the product vectors in which hard negatives are searched.
    """

    loss: Literal["auto", "full_softmax", "in_batch", "sampled_softmax"] = "auto"
    temperature: float = 0.06
    label_smoothing: float = 0.0
    negatives: int = 2048
    sampling: Literal["uniform", "popularity"] = "popularity"
    logq: bool = True
    remove_accidental_hits: bool = True
    hard_negatives: int = 4
    mined_every: int = 100

    def __post_init__(self) -> None:
        if self.temperature <= 0:
            raise ValueError(f"retrieval: temperature {self.temperature} must be above 0")
        for name, least in (("negatives", 1), ("hard_negatives", 0), ("mined_every", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"retrieval: {name} must be at least {least}")


@dataclasses.dataclass(frozen=True)
class TextConfig:
    """The encoder of product texts.

    Attributes:
        tuning: ``frozen``: its vectors are those of the data directory, and only the product tower's adapter of them
            is trained; or its ``last_layers`` or the ``whole`` of it are trained with the model.
        last_layers: transformer layers that ``last_layers`` trains.
        learning_rate: the highest of the encoder; it rises and falls with that of the model.
        texts: products of a batch, targets first, whose texts are encoded in a step; the others have the vectors that
            their texts had at the last validation.
    """

    tuning: Literal["frozen", "last_layers", "whole"] = "frozen"
    last_layers: int = 2
    learning_rate: float = 2e-5
    texts: int = 256

    def __post_init__(self) -> None:
        for name in ("last_layers", "texts"):
            if getattr(self, name) < 1:
                raise ValueError(f"text: {name} must be at least 1")
        if self.learning_rate <= 0:
            raise ValueError(f"text: learning_rate {self.learning_rate} must be above 0")


@dataclasses.dataclass(frozen=True)
class RankingConfig:
    """The ranking and the rating head: the chance of each behaviour (cross-entropy) and the rating (squared error).

    Attributes:
        weight: of its loss beside the retrieval loss; 0 leaves the head untrained.
        behavior_weight: of each behaviour's loss among the tasks; ``null``: by its learned uncertainty.
        rating_weight: of the rating's loss among the tasks; ``null``: by its learned uncertainty.
        units: of its hidden layer.
        shared_gradient: whether its loss also moves the towers; if not, retrieval cannot suffer from it.
    """

    weight: float = 1.0
    behavior_weight: float | None = None
    rating_weight: float | None = None
    units: int = 128
    shared_gradient: bool = False


@dataclasses.dataclass(frozen=True)
class BehaviorConfig:
    """The behaviour head: what comes next, as event type and category, and whether a purchase follows in the session.

    Attributes:
        steps: at most, of its training, which is a pass of its own after the towers'; 0 leaves it out.
        units: of its hidden layer.
    """

    steps: int = 4000
    units: int = 64

    def __post_init__(self) -> None:
        if self.units < 1:
            raise ValueError("behavior: units must be at least 1")
        if self.steps < 0:
            raise ValueError(f"behavior: steps {self.steps} must be at least 0")


@dataclasses.dataclass(frozen=True)
class IntentConfig:
    """The intent head: the category and the purpose of a query, learnt from what happened after it.

    Attributes:
        steps: at most, of its training, which is a pass of its own; 0 leaves it untrained.
    """

    steps: int = 2000

    def __post_init__(self) -> None:
        if self.steps < 0:
            raise ValueError(f"intent: steps {self.steps} must be at least 0")


@dataclasses.dataclass(frozen=True)
class SearchConfig:
    """The search tower: queries and products in one space, learnt from what was looked at after a search.

    Attributes:
        steps: at most, of its training, which is a pass of its own; 0 leaves search untrained.
    """

    steps: int = 2500

    def __post_init__(self) -> None:
        if self.steps < 0:
            raise ValueError(f"search: steps {self.steps} must be at least 0")


@dataclasses.dataclass(frozen=True)
class TransitionConfig:
    """The transition graph that is mixed with the model's scores.

    Attributes:
        events: newest events of a history whose edges are followed.
        decay: what an event counts beside the next newer one.
        weight: of the graph in the mixture, 0 turns it off; ``null``: the best on the validation split.
    """

    events: int = 5
    decay: float = 0.7
    weight: float | None = None

    def __post_init__(self) -> None:
        if self.weight is not None and not 0.0 <= self.weight < 1.0:
            raise ValueError(f"transitions: weight {self.weight} must be at least 0 and below 1")
        if self.events < 1:
            raise ValueError("transitions: events must be at least 1; weight 0 turns the graph off")


@dataclasses.dataclass(frozen=True)
class LikenessConfig:
    """How like a product's text is to that of something in the history, added to the scores.

    Attributes:
        weight: of a cosine of 1 in units of the softmax, 0 turns it off; ``null``: the best on the validation split.
    """

    weight: float | None = None

    def __post_init__(self) -> None:
        if self.weight is not None and self.weight < 0.0:
            raise ValueError(f"likeness: weight {self.weight} must be at least 0")


@dataclasses.dataclass(frozen=True)
class HabitConfig:
    """What a user comes back to, mixed with the scores where a session begins.

    Attributes:
        weight: of habits in the mixture, 0 turns them off; ``null``: the best on the validation split.
    """

    weight: float | None = None

    def __post_init__(self) -> None:
        if self.weight is not None and not 0.0 <= self.weight < 1.0:
            raise ValueError(f"habits: weight {self.weight} must be at least 0 and below 1")


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """How the model is trained.

    Attributes:
        epochs: at most so many passes over the training windows.
        batch_size: windows a step.
        learning_rate: the highest; it rises over `warmup_steps` and falls with a cosine to 5% at the last epoch.
        warmup_steps: steps until the learning rate is at its highest.
        patience: epochs without a better validation NDCG@10 after which training stops.
        clip_norm: largest norm of the gradient.
        average: momentum of the moving average of the weights, which is what is validated and kept; 0: no average.
        seed: of initial weights, order and dropout.
        mixed_precision: compute in bfloat16 where the machine has it.
        xla: compile the training step of the towers with XLA.
        strategy: ``tf.distribute`` strategy: one device, all GPUs of a machine, or all workers of TF_CONFIG.
        log_every: steps between progress and TensorBoard points.
        checkpoint_every: steps between checkpoints inside an epoch; 0: at the end of each epoch only.
    """

    epochs: int = 20
    batch_size: int = 128
    learning_rate: float = 1e-3
    warmup_steps: int = 200
    patience: int = 4
    clip_norm: float = 5.0
    average: float = 0.998
    seed: int = 17
    mixed_precision: bool = False
    xla: bool = False
    strategy: Literal["one_device", "mirrored", "multi_worker"] = "one_device"
    log_every: int = 50
    checkpoint_every: int = 0

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "patience", "log_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"training: {name} must be at least 1")
        for name in ("warmup_steps", "checkpoint_every"):
            if getattr(self, name) < 0:
                raise ValueError(f"training: {name} must be at least 0")
        if self.learning_rate <= 0:
            raise ValueError(f"training: learning_rate {self.learning_rate} must be above 0")
        if not 0.0 <= self.average < 1.0:
            raise ValueError(f"training: average {self.average} must be at least 0 and below 1")


@dataclasses.dataclass(frozen=True)
class Config:
    """All settings of a run."""

    towers: TowerConfig = dataclasses.field(default_factory=TowerConfig)
    retrieval: RetrievalConfig = dataclasses.field(default_factory=RetrievalConfig)
    ranking: RankingConfig = dataclasses.field(default_factory=RankingConfig)
    behavior: BehaviorConfig = dataclasses.field(default_factory=BehaviorConfig)
    intent: IntentConfig = dataclasses.field(default_factory=IntentConfig)
    search: SearchConfig = dataclasses.field(default_factory=SearchConfig)
    transitions: TransitionConfig = dataclasses.field(default_factory=TransitionConfig)
    likeness: LikenessConfig = dataclasses.field(default_factory=LikenessConfig)
    habits: HabitConfig = dataclasses.field(default_factory=HabitConfig)
    training: TrainingConfig = dataclasses.field(default_factory=TrainingConfig)
    text: TextConfig = dataclasses.field(default_factory=TextConfig)

    def __post_init__(self) -> None:
        if self.text.tuning == "frozen":
            return
        if self.retrieval.loss == "full_softmax":
            raise ValueError(
                f"text: tuning {self.text.tuning} with retrieval.loss full_softmax would encode the whole catalogue in "
                "every step; give retrieval.loss in_batch or sampled_softmax."
            )
        if not self.towers.text:
            raise ValueError(f"text: tuning {self.text.tuning} needs towers.text, which is off")
        if self.training.strategy != "one_device":
            raise ValueError(f"text: tuning {self.text.tuning} works with training.strategy one_device only")


def load_config(name_or_path: str) -> Config:
    """Return the settings of a YAML file, or of one that ships with the package (``fast``); "" is the default.

    Raises:
        UserError: there is no such file, or it holds what is no setting.
    """
    if not name_or_path:
        return Config()
    folder = resources.files("tfrs_shop") / "configs"
    shipped = sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))
    if name_or_path in shipped:
        with resources.as_file(folder / f"{name_or_path}.yaml") as path:
            return load_yaml(Config, path)
    if not Path(name_or_path).exists():
        near = suggest(name_or_path, shipped)
        raise UserError(
            f"--config {name_or_path}: no such file, and none ships under that name.{near} "
            f"Shipped: {', '.join(shipped)}."
        )
    return load_yaml(Config, name_or_path)
