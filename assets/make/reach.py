"""Which definitions of the package a notebook reaches, function by function. Used by notebooks.py.

A change to anything else, such as to how a run folder is locked, leaves the notebook's outputs true.
"""

import ast
import hashlib
import pathlib

ROOT = pathlib.Path(__file__).parents[2]


def bare(node):
    """The source of a tree as ast.unparse gives it, without docstrings and comments."""
    for inner in ast.walk(node):
        documented = isinstance(inner, ast.Module | ast.ClassDef | ast.FunctionDef)
        if documented and ast.get_docstring(inner) is not None:
            inner.body = inner.body[1:] or [ast.Pass()]
    return ast.unparse(node)


def file_of(module):
    """The file of a module of the package, None where there is none."""
    path = ROOT.joinpath(*module.split("."))
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.exists()), None)


def imports(tree):
    """What a tree imports of the package, anywhere in it: dict from what it calls it to (module, name), the
    name being "" for the module itself."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "fmgan_tf":
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                origin = (inner, "") if file_of(inner) else (node.module, alias.name)
                found[alias.asname or alias.name] = origin
    return found


def definitions(tree):
    """What a module defines at its top level: dict from a name to the statements that bind it."""
    found = {}
    for node in tree.body:
        targets = getattr(node, "targets", [getattr(node, "target", node)])  # of an assignment
        names = [inner for target in targets for inner in ast.walk(target) if isinstance(inner, ast.Name)]
        bound = [inner.id for inner in names if isinstance(inner.ctx, ast.Store)]
        for name in [node.name] if hasattr(node, "name") else bound:
            found.setdefault(name, []).append(node)
    return found


def uses(tree, known):
    """The (module, name) of all that a tree uses, where `known` says what its names stand for, see imports:
    attributes of modules, or a module itself where it is anything but the base of one."""
    bases = set()
    for node in ast.walk(tree):  # an attribute comes before its base
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            module, name = known.get(node.value.id, (None, None))
            if name == "":
                bases.add(node.value)
                yield module, node.attr
        elif isinstance(node, ast.Name) and node.id in known and node not in bases:
            if isinstance(node.ctx, ast.Load):
                yield known[node.id]


def reached(tree):
    """The definitions of the package that a notebook's tree reaches: dict from (module, name) to source."""
    known = imports(tree)
    wanted = {*uses(tree, known), *(origin for origin in known.values() if origin[1])}
    modules, found = {}, {}
    while wanted:
        module, name = wanted.pop()
        if module not in modules:
            tree = ast.parse(file_of(module).read_text())
            own = definitions(tree)
            modules[module] = own, {each: (module, each) for each in own} | imports(tree)
        own, known = modules[module]
        if not name:
            new = {(module, each) for each in own}
        elif name not in own:  # imported there, or nothing that a file defines
            new = {known[name]} if name in known else set()
        else:
            found[module, name] = "\n".join(map(bare, own[name]))
            new = {use for node in own[name] for use in uses(node, known)}
        wanted |= new - found.keys()
    return found


def digest(notebook):
    """The SHA-256 of a notebook's code cells and of the definitions that they reach, hexadecimal."""
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    found = reached(ast.parse("\n".join(cells)))
    texts = [bare(ast.parse(cell)) for cell in cells] + [found[key] for key in sorted(found)]
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()
