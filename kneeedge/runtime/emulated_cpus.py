"""CPUs that qemu-user emulates: which of its models each is, and its /proc/cpuinfo.

ONNX Runtime chooses its kernels by what the CPU says it can (x86: cpuid; Arm: the kernel's hwcaps,
and the part number in /proc/cpuinfo). qemu answers the first for the emulated CPU, but shows the
/proc/cpuinfo of this machine, from which `kneeedge.system.machine` reads. So each CPU has its own.

CPUs with AVX-512, VNNI or AMX are not here: qemu computes none of these.
"""

from dataclasses import dataclass

from kneeedge.errors import ConfigError
from kneeedge.system.machine import isa_of

X86 = "x86_64"
ARM = "aarch64"
_SSE = "fpu cx8 cmov mmx fxsr sse sse2 syscall nx lm pni ssse3 cx16 sse4_1 sse4_2 popcnt lahf_lm"
_AVX = f"{_SSE} avx"
_AVX2 = f"{_AVX} fma f16c avx2 bmi1 bmi2 movbe abm"
_NEON = "fp asimd aes pmull sha1 sha2 crc32 cpuid"
_DOT = f"{_NEON} atomics fphp asimdhp asimdrdm lrcpc dcpop asimddp"
_ALL = (
    f"{_DOT} jscvt fcma sha3 sm3 sm4 sha512 sve asimdfhm ilrcpc flagm sb paca pacg dcpodp sve2 "
    "sveaes svepmull svebitperm svesha3 svesm4 flagm2 frint svei8mm svef32mm svef64mm svebf16 "
    "i8mm bf16 rng bti mte sme"
)
"of Arm as the hwcaps (AT_HWCAP, AT_HWCAP2) have them under qemu 7.2; of x86 as cpuid has"


@dataclass(frozen=True, kw_only=True)
class EmulatedCpu:
    """A CPU to be emulated."""

    name: str
    "as `--emulate` takes it"
    model: str
    "as its /proc/cpuinfo gives it"
    architecture: str
    "X86 or ARM"
    qemu_name: str
    "of qemu's -cpu"
    flags: str
    "features by the names of Linux, separated by spaces"
    numbers: tuple[tuple[str, str], ...]
    "further lines of /proc/cpuinfo, which tell the maker and the part"

    @property
    def isa(self) -> tuple[str, ...]:
        """What `machine.isa_flags` is to say on it."""
        return isa_of(self.flags.split())

    def cpuinfo(self, n_cpus: int) -> str:
        """The text of /proc/cpuinfo with so many cores."""
        flags_key = "flags" if self.architecture == X86 else "Features"
        lines = [("model name", self.model), *self.numbers, (flags_key, self.flags)]
        blocks = []
        for i in range(n_cpus):
            block = [("processor", str(i)), *lines]
            blocks.append("".join(f"{key}\t: {value}\n" for key, value in block))
        return "\n".join(blocks)


def _x86(name: str, model: str, qemu_name: str, flags: str, signature: str) -> EmulatedCpu:
    """`signature`: vendor, family, model and stepping, as cpuid has them."""
    keys = ("vendor_id", "cpu family", "model", "stepping")
    return EmulatedCpu(
        name=name,
        model=f"{model}, emulated by qemu",
        architecture=X86,
        qemu_name=qemu_name,
        flags=flags,
        numbers=tuple(zip(keys, signature.split(), strict=True)),
    )


def _arm(name: str, model: str, flags: str, part: str, variant: str) -> EmulatedCpu:
    """`part` and `variant`: of the register MIDR_EL1, as Arm's reference manuals give them."""
    return EmulatedCpu(
        name=name,
        model=f"{model}, emulated by qemu",
        architecture=ARM,
        qemu_name=name,
        flags=flags,
        numbers=(
            ("BogoMIPS", "100.00"),
            ("CPU implementer", "0x41"),
            ("CPU architecture", "8"),
            ("CPU variant", variant),
            ("CPU part", part),
            ("CPU revision", "3"),
        ),
    )


CPUS = (
    _x86("nehalem", "Intel Nehalem (SSE4.2)", "Nehalem", _SSE, "GenuineIntel 6 26 3"),
    _x86("sandybridge", "Intel Sandy Bridge (AVX)", "SandyBridge", _AVX, "GenuineIntel 6 42 1"),
    _x86("haswell", "Intel Haswell (AVX2)", "Haswell", _AVX2, "GenuineIntel 6 60 4"),
    _x86("skylake", "Intel Skylake (AVX2)", "Skylake-Client", _AVX2, "GenuineIntel 6 94 3"),
    _x86("zen", "AMD Zen (AVX2)", "EPYC", _AVX2, "AuthenticAMD 23 1 2"),
    _arm("cortex-a53", "Arm Cortex-A53", _NEON, "0xd03", "0x0"),
    _arm("cortex-a72", "Arm Cortex-A72", _NEON, "0xd08", "0x0"),
    _arm("cortex-a76", "Arm Cortex-A76 (dot product)", _DOT, "0xd0b", "0x4"),
    _arm("neoverse-n1", "Arm Neoverse N1 (dot product)", _DOT, "0xd0c", "0x4"),
    # qemu's own part number, 0x051, is of no CPU; Neoverse V1 has these instruction sets.
    _arm("max", "Arm with all that qemu computes (SVE, i8mm, bf16)", _ALL, "0xd40", "0x1"),
)
NAMES = tuple(cpu.name for cpu in CPUS)
BEYOND = "AVX-512, VNNI and AMX are not among them, since qemu computes none of these"


def emulated_cpus(names: str) -> tuple[EmulatedCpu, ...]:
    """The CPUs of names separated by commas, each once; raises ConfigError for an unknown name."""
    by_name = {cpu.name: cpu for cpu in CPUS}
    wanted = dict.fromkeys(name.strip().lower() for name in names.split(","))
    unknown = [name for name in wanted if name not in by_name]
    if unknown:
        problem = f"--emulate {unknown[0] or names} is none of the CPUs known"
        raise ConfigError(problem, f"choose from {', '.join(NAMES)}; {BEYOND}")
    return tuple(by_name[name] for name in wanted)
