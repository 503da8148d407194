"""The package `gencompositor-jax`; tools are set up in pyproject.toml, versions pinned in constraints.txt."""

from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent

# Lower bounds are tested: `make test-lowest` installs exactly these (constraints-lowest.txt).
REQUIRES = [
    "absl-py>=2.1",
    "array_record>=0.8.1; sys_platform != 'win32'",
    "av>=17.0,<19",
    "decord>=0.6.0; (sys_platform == 'linux' and platform_machine == 'x86_64') or sys_platform == 'win32'",
    "flax>=0.12.4",
    "grain>=0.2.16",
    "importlib_resources>=6.4",  # tensorflow-datasets needs it and doesn't say so
    "jax>=0.10.0",
    "ml-collections>=1.0.0",
    "numpy>=2.1",
    "opencv-python-headless>=5.0",  # resamples otherwise than 4: procedural clips would differ
    "optax>=0.2.6",
    "orbax-checkpoint>=0.12.0",
    "pillow>=11.0",
    "scipy>=1.15",
    "tensorboardX>=2.6.4",  # writes event files without TensorFlow
    "tensorflow-datasets>=4.9.10",  # 4.9.9 fails with protobuf 7
    "tqdm>=4.66",
]

EXTRAS = {
    "test": [
        "hypothesis>=6.130",
        "mypy>=1.18",
        "pytest>=8.3",
        "pytest-xdist>=3.6",
        "PyYAML>=6.0.2",
        "ruff>=0.14",
    ],
    "convert": ["sentencepiece>=0.2.3", "transformers>=5.23.0"],  # only for `convert --prompt`
    # tests/parity/live: the PyTorch implementations, side by side with ours. A CPU build of torch will do.
    "parity": [
        "diffusers>=0.42.1",
        "sentencepiece>=0.2.3",
        "torch>=2.13.0",
        "transformers>=5.23.0",
    ],
    "cuda": ["jax[cuda13]"],  # NVIDIA driver 580 or newer
    "cuda12": ["jax[cuda12]"],  # older drivers
    "tpu": ["jax[tpu]"],
    # XLA's compiler for TPUs, for `gencompositor plan` on any x86 machine with Linux; JAX says which libtpu.
    "tpu-aot": ["jax[tpu]"],
}

setup(
    name="gencompositor-jax",
    version="0.1.0",
    description="Generative video compositing in JAX: a moving element goes where your trajectory says",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=find_packages(include=["gencompositor_jax*"]),
    package_data={"gencompositor_jax": ["weights/**/*", "py.typed"]},
    install_requires=REQUIRES,
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["gencompositor = gencompositor_jax.cli:entry_point"]},
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Multimedia :: Video",
    ],
)
