"""HTML reports: Jinja2 templates over one base page, without scripts of their own and without network access."""
