"""What `kneeedge certify` prints."""

from typing import TYPE_CHECKING

from kneeedge.model.spec import DISCLAIMER
from kneeedge.report.scorecard import three_answer_lines
from kneeedge.system.files import SHOWN_DIGITS
from kneeedge.system.plural import counted

if TYPE_CHECKING:
    from kneeedge.inference.certification import CertifyReport

UNSIGNED = (
    "it is not signed: a device that asks for a signature refuses it; --sign KEY.pem signs it"
)
HOLDS = (
    "the promise holds for images drawn as these were; hold it against others with "
    "`kneeedge evaluate`"
)


def certification_text(report: "CertifyReport") -> str:
    """The limits, what they promise, and what is to be known before they are used."""
    certified = report.certified
    abstained = f"; it abstains from {report.n_abstained:,} of them" if report.n_abstained else ""
    images = counted(report.n, "image")
    lines = [
        f"{images} of {report.split}, {counted(certified.n_units, 'unit')}{abstained}",
        *(
            three_answer_lines(report.three_answers, report.prevalence)
            if report.three_answers
            else []
        ),
        f"  shown: PPV {certified.ppv_bound:.4f} and NPV {certified.npv_bound:.4f} at least",
        f"  by {certified.method}",
    ]
    if report.n_chosen_on:
        n = f"{report.n_chosen_on:,} of these images"
        lines.append(
            f"OPTIMISTIC: the weights were chosen on {n}; give others for a promise to keep"
        )
    lines.append(f"{report.out} ({report.out_sha256[:SHOWN_DIGITS]})")
    if not report.signed:
        lines.append(UNSIGNED)
    return "\n".join([*lines, HOLDS, DISCLAIMER])
