"""HTML and reStructuredText to plain text."""

from octavo.data.markup import html_to_text, rst_to_text


def test_html_keeps_headings_lists_and_code_and_drops_navigation():
    page = (
        "<html><head><title>T</title></head><body><nav>Home</nav><h1>Main<a>¶</a></h1><p>One &amp;\n two.</p>"
        "<ul><li>first</li><li>second</li></ul><script>bad()</script><h2>Sub#</h2>"
        "<pre>def f():\n    pass\n</pre><p>End.</p>"
    )
    assert html_to_text(page) == (
        "# Main\n\nOne & two.\n\n- first\n\n- second\n\n## Sub\n\n    def f():\n        pass\n\nEnd."
    )


def test_html_ignores_text_inside_nested_navigation():
    assert html_to_text("<div><nav><nav>a</nav>b</nav>c</div>") == "c"


def test_rst_headings_follow_the_order_of_their_underlines():
    page = "Title\n*****\n\nText with ``code``.\n\nPart\n====\n\nSub\n----\n\nPart two\n========\n"
    assert rst_to_text(page) == "# Title\n\nText with `code`.\n\n## Part\n\n### Sub\n\n## Part two"


def test_rst_roles_links_and_directives():
    page = (
        ".. _label:\n\nSee :func:`~os.path.join` and :ref:`the part <label>`, `site <http://x>`_::\n\n    code()\n\n"
        ".. index::\n   single: gone\n\n.. note::\n\n   Mind this.\n\n.. code-block:: python\n\n   x = 1\n\n"
        ".. image:: gone.png\n"
    )
    text = rst_to_text(page)
    assert "See os.path.join and the part, site:" in text
    assert "    code()" in text
    assert "Note" in text
    assert "Mind this." in text
    assert "x = 1" in text
    assert "gone" not in text
