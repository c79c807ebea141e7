"""A study's images with what the frozen blocks give of them, computed once for all processes."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray

from kneeedge.data.dataset import Dataset, Sample
from kneeedge.errors import ConfigError
from kneeedge.runs.config import TrainConfig
from kneeedge.runs.recipe import RecipeFields
from kneeedge.runs.tuning import CONFIRM, Study, StudyPlan
from kneeedge.system.locks import holding
from kneeedge.system.progress import Progress
from kneeedge.training.cache import ActivationStore, cache_activations, plan_cache, views_wanted
from kneeedge.training.data import Batches, FileBatches
from kneeedge.training.lower import FP32
from kneeedge.training.model import KneeVGG
from kneeedge.training.run import lower_blocks, make_fabric, start_model
from kneeedge.tune.parts import search_part
from kneeedge.tune.space import settings

Setting = tuple[float, str, int]
"rotation, corruptions and frozen blocks: what the activations depend on"


@dataclass(frozen=True)
class Pool:
    """What trainings of a study are made from."""

    study: Study
    plan: StudyPlan
    parts: Dataset
    progress: Progress
    stores: dict[Setting, ActivationStore] = field(default_factory=dict)

    def config(self, fields: RecipeFields, seed: int | None = None) -> TrainConfig:
        """What a recipe trains by, with the study's seed or another one."""
        config = fields.applied(self.plan.config.train)
        return config if seed is None else replace(config, seed=seed)

    def model(self, config: TrainConfig) -> KneeVGG:
        """A network with the weights that every training begins with."""
        frozen = self.frozen(config)
        record = replace(self.plan.record, config=config, n_frozen_blocks=frozen)
        return start_model(self.study.run, record)

    def frozen(self, config: TrainConfig) -> int:
        """How many blocks a training freezes."""
        if config.freeze_blocks is None:
            return self.plan.record.n_frozen_blocks
        return config.freeze_blocks

    def fabric(self) -> Fabric:
        return make_fabric(self.plan.record.device, self.plan.record.bf16)

    def batches(
        self, config: TrainConfig, train: Sequence[Sample], val: Sequence[Sample]
    ) -> Batches:
        """Batches of these images: cached, or where nothing is, of the files."""
        store = self.store(config)
        if store is None:
            return FileBatches(train, val, config, config.pixel_path)
        cached = store.batches(train, val, config)
        return replace(cached, n_views=min(cached.n_views, config.views))

    def store(self, config: TrainConfig) -> ActivationStore | None:
        """The activations for a config's setting; one process computes them, others wait."""
        n_views = self.plan.record.n_views
        setting = (config.rotation, config.corruptions, self.frozen(config))
        if not n_views or not setting[2]:
            return None
        if setting not in self.stores:
            config = replace(config, seed=self.plan.config.train.seed)  # seeds share the views
            key = name_of(setting)
            wanted = views_wanted(search_part(self.parts), self.parts.split(CONFIRM), n_views)
            why = "another process computes the frozen blocks' activations; waiting for it"
            with holding(self.study.lock(key), self.progress, why):
                model = self.model(config).eval()
                lower = lower_blocks(self.study.run, self.plan.record, model)
                folder = self.study.cache(key)
                self.stores[setting] = cache_activations(
                    model, lower, wanted, config, folder, self.progress
                )
        return self.stores[setting]


def name_of(setting: Setting) -> str:
    """A name of the setting for a folder."""
    rotation, corruptions, n_frozen = setting
    kinds = "".join(f"-{name.strip()}" for name in corruptions.split(",") if name.strip())
    return f"blocks{n_frozen}-rotation{rotation:g}{kinds}"


def share_disk(pool: Pool) -> StudyPlan:
    """The plan with as many views as let all settings' activations fit --cache-gb together.

    Raises ConfigError where not one view does.
    """
    plan = pool.plan
    found = settings(plan)
    if not plan.record.n_views or len(found) < 2:
        return plan
    config = plan.config.train
    n_search = len(search_part(pool.parts))
    n_confirm = len(pool.parts.split(CONFIRM))
    bytes_of: dict[int, int] = {}
    for *_, n_frozen in found:
        if n_frozen not in bytes_of:
            model = pool.model(replace(config, freeze_blocks=n_frozen)).eval()
            precision = plan.record.frozen_precision or FP32
            cache = plan_cache(model, n_search, n_confirm, config, precision)
            bytes_of[n_frozen] = cache.bytes_a_view
    bytes_a_row = sum(bytes_of[n_frozen] for *_, n_frozen in found)
    fitting = int((config.cache_gb * 1e9 / bytes_a_row - n_confirm) // n_search)
    n_views = min(config.views, fitting)
    if n_views < 1:
        needed = (n_search + n_confirm) * bytes_a_row / 1e9
        problem = f"--also needs {len(found)} sets of activations, {needed:.1f} GB with one view"
        raise ConfigError(problem, f"raise --cache-gb {config.cache_gb:g}, or search less")
    gigabytes = (n_search * n_views + n_confirm) * bytes_a_row / 1e9
    pool.progress(
        f"--also {','.join(plan.config.also)}: up to {len(found)} sets of activations of "
        f"{n_views} views, {gigabytes:.1f} GB together (--cache-gb {config.cache_gb:g}); each is "
        "computed when a trial first needs it, which takes as long as the first"
    )
    return replace(plan, record=replace(plan.record, n_views=n_views))


def logits_of(model: KneeVGG, batches: Batches, fabric: Fabric) -> NDArray[np.float32]:
    """Logits (N, K) of the validation images of `batches`, as the model stands."""
    model.eval()
    logits = []
    with torch.inference_mode(), fabric.autocast():
        for x, _ in batches.val():
            images = x if x.dtype == torch.uint8 else x.float()
            logits.append(model(fabric.to_device(images)).float().cpu())
    return np.asarray(torch.cat(logits).numpy(), dtype=np.float32)
