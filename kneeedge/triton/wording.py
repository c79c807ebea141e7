"""What `kneeedge triton` prints."""

from kneeedge.model.spec import DISCLAIMER
from kneeedge.system.files import SHOWN_DIGITS
from kneeedge.triton.repository import RepositoryReport

START = "tritonserver --model-repository {out} --http-address 127.0.0.1 --grpc-address 127.0.0.1"
UNTOLD = "Triton asks nobody who they are and encrypts nothing of its own: put a proxy before it"


def repository_text(report: RepositoryReport) -> str:
    """What was written, what each model takes, and what the server leaves to others."""
    size = f"{report.n_bytes / 1e6:.1f} MB"
    network = "the network's input to its outputs, by Triton's onnxruntime"
    lines = [
        f"{report.out}: {size}, model {report.model_sha256[:SHOWN_DIGITS]}, on {report.provider}",
        f"{report.files_model}: an image file to an answer, in Triton's Python with kneeedge",
        *([f"{report.network_model}: {network}"] if report.network_model else []),
        *([report.notice] if report.notice else []),
        UNTOLD,
        DISCLAIMER,
    ]
    return "\n".join(lines)


def start_command(report: RepositoryReport) -> str:
    """What starts a server of the repository, to this machine alone; metrics have a third address.

    Triton takes an absolute path, or one from where it is started.
    """
    return START.format(out=report.out) + " --metrics-address 127.0.0.1"
