"""What pyproject.toml cannot say: the notebooks, which stay at the top of the repository, belong to `analysis`."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["tatl*", "analysis*"]), "analysis.notebooks"],
    package_dir={"analysis.notebooks": "notebooks"},
)
