"""`infer --dicomweb`: studies of an archive answered as a folder, their reports stored there."""

from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from kneeedge.errors import ConfigError
from kneeedge.inference.heatmap import place_below
from kneeedge.inference.request import InferRequest, infer_request
from kneeedge.inference.summary import FolderResult
from kneeedge.node.dicomweb import Archive, check_study, check_url
from kneeedge.pixels.listing import find_images
from kneeedge.system.outputs import STDOUT
from kneeedge.system.progress import Progress


@dataclass(frozen=True)
class Studies:
    """Studies of a DICOMweb archive. Raises ConfigError for what is no URL or no UID."""

    url: str
    uids: tuple[str, ...]

    def __post_init__(self) -> None:
        check_url(self.url)
        for uid in self.uids:
            check_study(uid)


def studies_of(request: InferRequest, url: str | None, uids: list[str] | None) -> Studies | None:
    """The studies that are asked for; None where paths are. Raises ConfigError for both or none."""
    if url is None:
        if uids:
            raise ConfigError("--study of no archive", "name it with --dicomweb URL")
        if not request.paths:
            remedy = "name images or folders, or --dicomweb URL and --study UID"
            raise ConfigError("there is nothing to answer", remedy)
        return None
    if not uids:
        raise ConfigError("--dicomweb answers no whole archive", "name a study with --study UID")
    if request.paths:
        raise ConfigError("--dicomweb and paths exclude each other", "leave out one")
    if request.watch or request.new_only:
        raise ConfigError("--dicomweb answers a study once", "leave out --watch and --new-only")
    if request.out == STDOUT and request.options.dicom_sr is None:
        raise ConfigError("--out - leaves no place for the reports", "name one with --dicom-sr")
    return Studies(url, tuple(dict.fromkeys(uids)))


def infer_studies(
    request: InferRequest, studies: Studies, model: Path, why: str, progress: Progress
) -> FolderResult:
    """Fetch the studies, answer them as `infer_request` does, and store their reports.

    Rows are named `<study>/<SOPInstanceUID>.dcm`. The images are deleted in the end; the reports
    stay below `--dicom-sr`, or beside the rows. Raises ArchiveError, with the rows and the reports
    written where it is the storing that failed.
    """
    archive = Archive(studies.url)
    reports = request.options.dicom_sr or reports_beside(request.out)
    options = replace(request.options, dicom_sr=reports)
    with TemporaryDirectory(prefix="kneeedge-") as name:
        folder = Path(name)
        for uid in studies.uids:
            archive.fetch_study(uid, folder / uid, progress)
        fetched = replace(request, paths=(folder,), options=options)
        result = infer_request(fetched, model, why, progress)
        names = [image.name for image in find_images([folder]).images]
    written = [path for name in names if (path := report_of(reports, name)).exists()]
    if written:
        archive.store(written)
        progress(f"{len(written):,} reports stored in {archive.url}")
    return result


def reports_beside(out: Path) -> Path:
    """Where the reports of a study go when nobody names a folder."""
    return out.with_name(f"{out.stem}-reports")


def report_of(folder: Path, name: str) -> Path:
    """Where the report of an image is."""
    return place_below(folder, name, ".sr.dcm")
