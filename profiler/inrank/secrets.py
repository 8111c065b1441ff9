"""Which parts of an environment and a command line may be written down."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

ALLOWED_PREFIXES = (
    "TORCH",
    "PYTORCH_",
    "NCCL_",
    "GLOO_",
    "CUDA_",
    "NVIDIA_VISIBLE_DEVICES",
    "NVIDIA_TF32_OVERRIDE",
    "HIP_VISIBLE_DEVICES",
    "ROCR_VISIBLE_DEVICES",
    "OMP_",
    "MKL_",
    "KMP_",
    "GOMP_",
    "SLURM_",
    "OMPI_COMM_WORLD_",
    "PMI_",
    "KINETO_",
    "OPENBLAS_NUM_THREADS",
    "MALLOC_",
    "LD_PRELOAD",
    "PYTHONHASHSEED",
    "PYTHONUNBUFFERED",
    "PYTHONMALLOC",
    "TOKENIZERS_PARALLELISM",
    "ACCELERATE_",
    "MASTER_",
    "RANK",
    "WORLD_SIZE",
    "LOCAL_RANK",
    "LOCAL_WORLD_SIZE",
    "GROUP_RANK",
)
HIDDEN = "***"

_SECRET_NAME = re.compile(
    r"(?i)(token|secret|passw|pwd|credential|api[-_]?key|access[-_]?key|private[-_]?key|auth|jwt"
    r"|cookie|signature|bearer)"
)
_NOT_SECRET = re.compile(r"(?i)(tokenizer|author|num[-_]?tokens|tokens?[-_]per|max[-_]?tokens)")
_SECRET_VALUE = re.compile(
    r"(?:sk|pk|rk)-[A-Za-z0-9_-]{16,}|hf_[A-Za-z0-9]{16,}|gh[pousr]_[A-Za-z0-9]{16,}"
    r"|github_pat_\w{16,}|glpat-[\w-]{16,}|xox[abpr]-[\w-]{10,}|A[KS]IA[A-Z0-9]{16}"
    r"|eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*|-----BEGIN"
)
_IN_ADDRESS = re.compile(r"(\w[\w+.-]*://)[^/\s@]+@")
_HEX_KEY = re.compile(r"(?<![/\w.])(?=[A-Za-z]*\d)[0-9a-fA-F]{32,}(?![\w./])")


def allowed_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables that may be recorded, sorted; values that look like secrets are hidden."""
    names = sorted(name for name in environ if name.startswith(ALLOWED_PREFIXES))
    return {name: HIDDEN if names_a_secret(name) else redact_text(environ[name]) for name in names}


def names_a_secret(name: str) -> bool:
    """Whether a variable or an option of this name usually holds a secret."""
    return bool(_SECRET_NAME.search(_NOT_SECRET.sub("", name)))


def redact_text(text: str) -> str:
    """`text` without keys, tokens and passwords inside addresses."""
    text = _IN_ADDRESS.sub(rf"\1{HIDDEN}@", text)
    return _HEX_KEY.sub(HIDDEN, _SECRET_VALUE.sub(HIDDEN, text))


def redact_arguments(arguments: Sequence[str]) -> list[str]:
    """A command line without secrets: `--token X`, `--token=X`, `TOKEN=X` and bare keys."""
    shown: list[str] = []
    hide_next = False
    for argument in arguments:
        name, equals, _ = argument.partition("=")
        is_option = argument.startswith("-")
        if hide_next and not is_option:
            shown.append(HIDDEN)
        elif equals and names_a_secret(name) and (is_option or name.isidentifier()):
            shown.append(f"{name}={HIDDEN}")
        else:
            shown.append(redact_text(argument))
        hide_next = is_option and not equals and names_a_secret(argument)
    return shown
