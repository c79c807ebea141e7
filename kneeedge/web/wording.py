"""What `kneeedge web` prints."""

from kneeedge.model.spec import DISCLAIMER
from kneeedge.system.files import SHOWN_DIGITS
from kneeedge.system.plural import counted
from kneeedge.web.site import SiteReport

THREADS = (
    "From a web server only, as a file it does not run. Several threads take two headers, which "
    "`kneeedge web --serve PORT` sends"
)


def site_text(report: SiteReport) -> str:
    """What was written, what the page holds itself to, and how it is served."""
    size = f"{counted(report.n_files, 'file')}, {report.n_bytes / 1e6:.1f} MB"
    golden = f"{report.n_pictures} golden pictures and {report.n_golden} golden inputs"
    lines = [
        f"{report.out}: {size}, model {report.model_sha256[:SHOWN_DIGITS]}",
        f"it answers once it has repeated {golden}, on {' or else '.join(report.backends)}",
        THREADS,
        DISCLAIMER,
    ]
    return "\n".join(lines)
