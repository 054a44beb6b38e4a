"""The API page: built without a warning, with every public name and its signature, nothing else."""

import contextlib
import html
import inspect
import pathlib
import posixpath
import re
import shlex
import types
import warnings
from typing import Any

import pytest
from public_names import public_names, public_packages

import stackjax

pytest.importorskip("pdoc", reason="the API page is built with pdoc, of the extra `docs`")

ROOT = pathlib.Path(__file__).parents[2]
README = ROOT / "README.md"
COMMAND = re.findall(r"python -m pdoc (.*) -o build/api (.*)", README.read_text())


def test_readme_has_one_plain_command():
    options = "-d google --no-show-source -t stackjax/guide/_template"
    assert COMMAND == [(options, "stackjax stackjax.plot")]


def is_named_tuple(name):
    found = stackjax
    for part in name.split(".")[1:]:
        found = getattr(found, part, None)
    return inspect.isclass(found) and issubclass(found, tuple) and hasattr(found, "_fields")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Each page's text by the name of its file."""
    from pdoc.__main__ import cli

    folder = tmp_path_factory.mktemp("api")
    with warnings.catch_warnings(record=True) as caught, contextlib.chdir(ROOT):
        warnings.simplefilter("always")
        cli([*shlex.split(" ".join(COMMAND[0])), "-o", str(folder)])
    told = [str(warning.message) for warning in caught]
    # pdoc looks up the postponed annotations of a named tuple in no module, and prints them as they
    # are written, which is what is wanted.
    postponed = re.compile(r"Error parsing type annotation \S.* for (\S+)\.__init__\.")
    told = [t for t in told if not ((m := postponed.match(t)) and is_named_tuple(m[1]))]
    assert not told, "\n".join(told)
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*.*")}


def page_of(package):
    return package.replace(".", "/") + ".html"


def section(page, name):
    """The part of a page on one name, up to the next."""
    start = page.find(f'<section id="{name}">')
    return "" if start < 0 else page[start : page.find('<section id="', start + 1)]


def text_of(markup):
    return " ".join(html.unescape(re.sub(r"<[^>]+>", "", markup)).split())


def test_one_page_for_each_public_package_or_module(site):
    pages = {name for name in site if name.endswith(".html") and name != "index.html"}
    public = set(public_packages())
    for package, name in public_names():
        value = getattr(public_packages()[package], name)
        if isinstance(value, types.ModuleType):
            public.add(value.__name__)
    assert pages == {page_of(module) for module in public}


@pytest.mark.parametrize("package", public_packages())
def test_every_public_name_has_its_signature(site, package):
    page = site[page_of(package)]
    missing, unsigned = [], []
    for name in public_packages()[package].__all__:
        value: Any = getattr(public_packages()[package], name)
        if isinstance(value, types.ModuleType):
            continue
        part = text_of(section(page, name))
        if not part:
            missing.append(name)
        elif callable(value) and name not in part.split(">>>")[0]:
            unsigned.append(name)
        elif inspect.isfunction(inspect.unwrap(value)):
            arguments = list(inspect.signature(value).parameters)
            signature = part[: part.find("->")]
            unsigned += [name] * any(argument not in signature for argument in arguments)
    assert not missing, f"not on the page: {missing}"
    assert not unsigned, f"without a signature: {unsigned}"


@pytest.mark.parametrize("package", public_packages())
def test_nothing_private_is_documented(site, package):
    page = site[page_of(package)]
    members = re.findall(r'<(?:section|div) id="([^"]+)"(?: class="classattr")?>', page)
    values = [getattr(public_packages()[package], n) for n in public_packages()[package].__all__]
    assert members or all(isinstance(value, types.ModuleType) for value in values)
    last = [member.split(".")[-1] for member in members]
    assert not [m for m in last if m.startswith("_") and m not in ("__init__", "__call__")]
    tops = {member.split(".")[0] for member in members}
    assert tops <= set(public_packages()[package].__all__)


@pytest.mark.parametrize("package", public_packages())
def test_no_methods_for_jax_alone(site, package):
    page = site[page_of(package)]
    members = re.findall(r'<div id="([^"]+)" class="classattr">', page)
    pytree = ("tree_flatten", "tree_unflatten", "replace")
    assert not [m for m in members if m.split(".")[-1] in pytree]
    assert "Alias for field number" not in page
    decorators = re.findall(r'<div class="decorator[^>]*>([^<]*)<', page)
    assert not [d for d in decorators if d.startswith(("@jax", "@dataclass", "@struct"))]
    assert "jaxlib" not in text_of(page)


def sidebar(page):
    """The topics of a page's sidebar: headings with the texts of their links, in order."""
    nav = page[page.index("<nav") : page.index("</nav>")]
    parts = re.split(r'<h2 class="topic">([^<]+)</h2>', nav)[1:]
    links = lambda part: [text_of(link) for link in re.findall(r"<a [^>]*>[^<]*</a>", part)]
    return {title: links(part) for title, part in zip(parts[::2], parts[1::2])}


def test_the_sidebar_is_by_topic_on_every_page(site):
    first = sidebar(site["stackjax.html"])
    topics = "Game Sets Solvers Answers Learning Certificates Rooms Guide Notebooks"
    assert list(first) == topics.split()
    listed = [name for title in topics.split()[:-2] for name in first[title]]
    assert sorted(listed) == sorted({*stackjax.__all__, "plot"} - {"guide"})
    pages = [name for name in site if name.endswith(".html") and name != "index.html"]
    for name in pages:
        here = sidebar(site[name])
        assert list(here) == list(first), name
        assert set(listed) <= {link for links in here.values() for link in links}, name


def test_the_first_page_follows_the_sidebar(site):
    page = site["stackjax.html"]
    topics = re.findall(r'<h2 class="topic" id="[^"]+">([^<]+)</h2>', page)
    assert [*topics, "Notebooks"] == list(sidebar(page))
    sections = re.findall(r'<section id="([^"]+)">', page)
    names = [n for n in stackjax.__all__ if not isinstance(getattr(stackjax, n), types.ModuleType)]
    assert sorted(sections) == sorted(names)
    assert sections == [n for t in topics for n in sidebar(page)[t] if n in names]


def test_the_first_page_links_every_guide_page_and_notebook(site):
    top = site["stackjax.html"].split("<main")[1].split('<div class="docstring">')[0]
    guides = {name for name in site if name.startswith("stackjax/guide/")}
    linked = re.findall(r'href="(stackjax/guide/[^"#]+)"', top)
    assert guides and guides == set(linked) and len(guides) == len(linked)
    direct = [link.split("/")[2] for link in linked if link.count("/") == 2]
    assert direct == [name + ".html" for name in stackjax.guide.__all__]
    notebooks = sorted(path.name for path in (ROOT / "notebooks").glob("*.ipynb"))
    assert re.findall(r"/blob/main/notebooks/([^\"]+)", top) == notebooks


def test_links_lead_somewhere(site):
    for name, page in site.items():
        if not name.endswith(".html"):
            continue
        for target, anchor in re.findall(r'href="([^":#]*\.html)?(#[^"]+)?"', page):
            goal = posixpath.normpath(posixpath.join(posixpath.dirname(name), target))
            goal = goal if target else name
            assert goal in site, f"{name}: {target}"
            if anchor and goal != "index.html":
                assert f'id="{anchor[1:]}"' in site[goal], f"{name}: {target}{anchor}"


def test_the_first_page_tells_what_there_is(site):
    first = text_of(site["stackjax.html"].split('<section id="')[0])
    assert "Four steps" in first and "def leader_utility" in first
    told = set(re.findall(r"`(?:stackjax\.)?(\w+)`", stackjax.__doc__ or ""))
    missing = set(stackjax.__all__) - told
    assert not missing, f"not in the table of `stackjax`: {missing}"
