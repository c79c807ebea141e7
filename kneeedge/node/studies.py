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
from kneeedge.system.plural import counted
from kneeedge.system.progress import Progress


@dataclass(frozen=True)
class StudyRequest:
    """Studies of a DICOMweb archive, and how to answer them.

    Raises ConfigError for what is no URL or no UID, and for what only a folder can be asked.
    """

    url: str
    "of the service, as http://archive/dicom-web"
    uids: tuple[str, ...]
    "Study Instance UIDs"
    infer: InferRequest
    "its paths are empty"

    def __post_init__(self) -> None:
        check_url(self.url)
        for uid in self.uids:
            check_study(uid)
        if not self.uids:
            problem = "--dicomweb answers no whole archive"
            raise ConfigError(problem, "name a study with --study UID")
        if self.infer.watch or self.infer.new_only:
            problem = "--dicomweb answers a study once"
            raise ConfigError(problem, "leave out --watch and --new-only")
        if self.infer.out == STDOUT and self.infer.options.dicom_sr is None:
            raise ConfigError("--out - leaves no place for reports", "name one with --dicom-sr")

    @property
    def reports(self) -> Path:
        """Where the reports stay: the folder that is named, else one beside the rows."""
        out = self.infer.out
        return self.infer.options.dicom_sr or out.with_name(f"{out.stem}-reports")


def infer_studies(request: StudyRequest, model: Path, why: str, progress: Progress) -> FolderResult:
    """Fetch the studies, answer them as `infer_request` does, and store their reports.

    Rows are named `<study>/<SOPInstanceUID>.dcm`. The images are deleted in the end. Raises
    ArchiveError, with the rows and the reports written where it is the storing that failed.
    """
    archive = Archive(request.url)
    options = replace(request.infer.options, dicom_sr=request.reports)
    with TemporaryDirectory(prefix="kneeedge-") as name:
        folder = Path(name)
        for uid in request.uids:
            archive.fetch_study(uid, folder / uid, progress)
        fetched = replace(request.infer, paths=(folder,), options=options)
        result = infer_request(fetched, model, why, progress)
        names = [image.name for image in find_images([folder]).images]
    reports = [place_below(request.reports, name, ".sr.dcm") for name in names]
    written = [path for path in reports if path.exists()]
    if written:
        archive.store(written)
        progress(f"{counted(len(written), 'report')} stored in {archive.url}")
    return result
