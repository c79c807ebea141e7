"""The run over many machines: the journal of a folder run, filled by the workers of a cluster."""

import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import replace

from kneeedge.cluster.engine import Cluster, answered, joined, workers_of
from kneeedge.cluster.messages import ChunkAnswers, WorkerSetup
from kneeedge.cluster.parquet import is_parquet, publish_parquet
from kneeedge.cluster.reading import object_still_is
from kneeedge.cluster.request import RayRequest
from kneeedge.cluster.sources import ClusterImage, find_sources
from kneeedge.inference.folder import (
    is_as_answered,
    kept_batches,
    names,
    rows_in_order,
)
from kneeedge.inference.journal import Batch, Journal, RunKey
from kneeedge.inference.output import publish
from kneeedge.inference.predictions import Prediction, csv_columns, prediction_of_row
from kneeedge.inference.predictor import DEFAULT_BATCH
from kneeedge.inference.summary import (
    AnswerCounts,
    ClusterFacts,
    FolderResult,
    folder_summary,
    stage_seconds,
)
from kneeedge.model.file import ModelFile
from kneeedge.pixels.listing import Listing
from kneeedge.pixels.prefetch import StageClock
from kneeedge.system.plural import counted
from kneeedge.system.progress import Progress
from kneeedge.system.stamps import FileStamp
from kneeedge.version import __version__


def infer_on_ray(
    request: RayRequest, model: ModelFile, why: str, progress: Progress
) -> FolderResult:
    """Answer every image of the request by a cluster, and write the rows.

    They are those of `infer_folder` with the same threads a network, and so is what becomes of a
    run that is stopped, killed or lacks room. Raises what `find_sources`, `Journal`, `joined` and
    `answered` raise; a KeyboardInterrupt leaves the rows for the next run.
    """
    start = time.perf_counter()
    listing = find_sources(request.sources, progress)
    run = ClusterRun(request, model, progress)
    progress(f"model: {model.path} ({why}), provider {request.provider} on Ray")
    run.write(images_of(listing))
    seconds = time.perf_counter() - start
    summary = folder_summary(
        run.counts, model.spec, stage_seconds(run.clock, seconds), seconds, request.infer.out
    )
    return FolderResult(
        model=str(model.path),
        model_sha256=model.sha256,
        provider=request.provider,
        summary=summary,
        others=tuple(map(str, listing.others)),
        remarks=tuple(listing.remarks()),
        predictions=tuple(run.predictions),
        cluster=run.facts(),
    )


def images_of(listing: Listing) -> list[ClusterImage]:
    """The images of a listing by `find_sources`."""
    return [image for image in listing.images if isinstance(image, ClusterImage)]


class ClusterRun:
    """One run over many machines, and what it has counted so far."""

    def __init__(self, request: RayRequest, model: ModelFile, progress: Progress) -> None:
        self.request = request
        self.model = model
        self.progress = progress
        self.batch_size = request.infer.batch_size or DEFAULT_BATCH.get(request.provider, 8)
        self.clock = StageClock()
        self.counts = AnswerCounts()
        self.predictions: list[Prediction] = []
        "in input order, where they are to be kept"
        self._workers: set[tuple[str, int]] = set()
        self._start_seconds = 0.0
        self._said: set[str] = set()

    def write(self, images: Sequence[ClusterImage]) -> None:
        """Answer what no earlier run has answered, and put the output in place."""
        size = self.batch_size
        batches = [images[i : i + size] for i in range(0, len(images), size)]
        options = self.request.infer.options
        with Journal(self.request.infer.out, self.key(), options.resume) as journal:
            kept = kept_batches(batches, journal, self.progress, is_same)
            missing = {i: b for i, b in enumerate(batches) if names(b) not in kept}
            with self.progress.stage("infer", len(images)) as stage:
                stage.advance(len(images) - sum(map(len, missing.values())))
                with closing(self._batches(missing)) as answered_batches:
                    for batch in answered_batches:
                        entry = journal.append(batch)
                        kept[entry.paths] = entry
                        stage.advance(len(batch.rows))
            out = self.request.infer.out
            rows = self._counted(rows_in_order(batches, kept, journal))
            (publish_parquet if is_parquet(out) else publish)(out, rows, journal)

    def _counted(self, rows: Iterator[list[str]]) -> Iterator[list[str]]:
        """The rows as they are, once they are counted, and kept where that is asked for."""
        for row in rows:
            prediction = prediction_of_row(row, self.model.spec)
            self.counts.add(prediction)
            if self.request.infer.options.keep:
                self.predictions.append(prediction)
            yield row

    def _batches(self, missing: dict[int, Sequence[ClusterImage]]) -> Generator[Batch]:
        """The rows of all missing batches, each once, as they come; no Ray where there are none."""
        if not missing:
            return
        data = self.model.source
        content = data if isinstance(data, bytes) else self.model.path.read_bytes()
        self.model.check_same()
        start = time.perf_counter()
        with joined(self.request, len(content)) as cluster:
            self._say_cluster(cluster)
            for answers in answered(
                cluster, self.request, self._setup(missing), content, missing, self.progress
            ):
                if not self._workers:
                    self._start_seconds = time.perf_counter() - start
                self._count(answers)
                yield from answers.batches
        n_workers = max(1, len(self._workers))
        for stage in self.clock.seconds:
            self.clock.seconds[stage] /= n_workers

    def _count(self, answers: ChunkAnswers) -> None:
        self._workers.add((answers.node, answers.pid))
        for stage, seconds in answers.seconds.items():
            self.clock.seconds[stage] += seconds
        for remark in answers.remarks:
            if remark not in self._said:
                self._said.add(remark)
                self.progress(remark)

    def _say_cluster(self, cluster: Cluster) -> None:
        n_workers = workers_of(cluster.ray, self.request)
        where = "this machine" if cluster.is_own else counted(cluster.n_nodes, "node")
        self.progress(f"ray {cluster.ray.__version__}: {counted(n_workers, 'network')} on {where}")

    def _setup(self, missing: dict[int, Sequence[ClusterImage]]) -> WorkerSetup:
        """What workers are told; the folders that they need are those of the missing images."""
        infer = self.request.infer
        isolate = True if infer.isolate is None else infer.isolate
        local = {i.folder for batch in missing.values() for i in batch if not i.in_store}
        return WorkerSetup(
            request=replace(
                infer,
                paths=(),
                provider=self.request.provider,
                threads=self.request.threads,
                batch_size=self.batch_size,
                isolate=isolate,
            ),
            model=str(self.model.path),
            model_sha256=self.model.sha256,
            version=__version__,
            folders=tuple(sorted(local)),
        )

    def key(self) -> RunKey:
        """What decides the rows, as of a folder run with the same threads a network."""
        infer = self.request.infer
        pixel_path = self.model.spec.pixel_path
        return RunKey(
            version=__version__,
            model_sha256=self.model.sha256,
            provider=self.request.provider,
            threads=self.request.threads,
            batch_size=self.batch_size,
            answer_all=infer.answer_all,
            dicom_window=infer.dicom_window,
            grey_bits=pixel_path.grey_bits if infer.grey_bits is None else infer.grey_bits,
            max_pixels=infer.max_pixels,
            with_patient_id=infer.options.with_patient_id,
            heatmaps="",
            dicom_sr="",
            columns=tuple(csv_columns(self.model.spec)),
        )

    def facts(self) -> ClusterFacts:
        """What the run was computed by."""
        return ClusterFacts(
            n_nodes=len({node for node, _ in self._workers}),
            n_workers=len(self._workers),
            start_seconds=round(self._start_seconds, 3),
        )


def is_same(image_and_stamp: tuple[ClusterImage, FileStamp | None]) -> bool:
    """Whether the file or the object is what was answered."""
    image, stamp = image_and_stamp
    if image.in_store:
        return stamp is not None and object_still_is(image, stamp)
    return is_as_answered(image_and_stamp)
