"""From WARC files to pages: everything that looks at one page alone. Decisions are SQL (dbt_project/models/corpus)."""
