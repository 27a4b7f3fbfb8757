"""The sources that claims are taken from, as pages name them; the references themselves are in book/references.bib."""

from __future__ import annotations

from collections.abc import Mapping

NAMES: Mapping[str, str] = {
    "shen2018": "Shen 2018",
    "keskar2017": "Keskar et al. 2017",
    "hoffer2017": "Hoffer et al. 2017",
    "shallue2019": "Shallue et al. 2019",
    "thread2018": "a thread on Shallue et al.",
    "glorot2010": "Glorot and Bengio 2010",
    "he2015": "He et al. 2015",
    "kalamkar2019": "Kalamkar et al. 2019",
    "micikevicius2018": "Micikevicius et al. 2018",
    "goyal2017": "Goyal et al. 2017",
    "krizhevsky2014": "Krizhevsky 2014",
    "mccandlish2018": "McCandlish et al. 2018",
    "merrill2025": "Merrill et al. 2025",
    "zhang2019": "Zhang et al. 2019",
    "cohen2021": "Cohen et al. 2021",
    "malladi2022": "Malladi et al. 2022",
    "choi2019": "Choi et al. 2019",
    "dinh2017": "Dinh et al. 2017",
    "simsekli2019": "Şimşekli et al. 2019",
    "panigrahi2019": "Panigrahi et al. 2019",
    "xie2023": "Xie et al. 2023",
    "wilson2017": "Wilson et al. 2017",
    "smith2018bayesian": "Smith and Le 2018",
    "smith2018": "Smith et al. 2018",
    "you2019": "You et al. 2019",
    "banburski": "Banburski's slides",
}
