{#- Text functions: every engine spells them differently. Each takes and gives an SQL expression. -#}

{#- Number of words: runs of anything but white space. -#}
{%- macro count_words(text) -%}
  {{ return(adapter.dispatch('count_words')(text)) }}
{%- endmacro -%}

{%- macro duckdb__count_words(text) -%}
  len(regexp_extract_all({{ text }}, '\S+'))
{%- endmacro -%}

{#- Bytes of a text in UTF-8. -#}
{%- macro count_bytes(text) -%}
  {{ return(adapter.dispatch('count_bytes')(text)) }}
{%- endmacro -%}

{%- macro duckdb__count_bytes(text) -%}
  strlen({{ text }})
{%- endmacro -%}

{#- List of the lines of a text. -#}
{%- macro lines_of(text) -%}
  {{ return(adapter.dispatch('lines_of')(text)) }}
{%- endmacro -%}

{%- macro duckdb__lines_of(text) -%}
  string_split({{ text }}, chr(10))
{%- endmacro -%}

{#- Lines of a group joined again in order. -#}
{%- macro join_lines(line, position) -%}
  {{ return(adapter.dispatch('join_lines')(line, position)) }}
{%- endmacro -%}

{%- macro duckdb__join_lines(line, position) -%}
  string_agg({{ line }}, chr(10) order by {{ position }})
{%- endmacro -%}

{#- Whether a text has code between fences, and whether a line is one of these (ingest/markdown.py). -#}
{%- macro has_fences(text) -%}
  {{ return(adapter.dispatch('has_fences')(text)) }}
{%- endmacro -%}

{%- macro duckdb__has_fences(text) -%}
  contains({{ text }}, '```')
{%- endmacro -%}

{%- macro is_fence(line) -%}
  {{ return(adapter.dispatch('is_fence')(line)) }}
{%- endmacro -%}

{%- macro duckdb__is_fence(line) -%}
  starts_with(ltrim({{ line }}), '```')
{%- endmacro -%}

{#- Whether a line says something: brackets, rules and empty cells have neither letter nor digit. -#}
{%- macro has_letters(line) -%}
  {{ return(adapter.dispatch('has_letters')(line)) }}
{%- endmacro -%}

{%- macro duckdb__has_letters(line) -%}
  regexp_matches({{ line }}, '[\p{L}\p{N}]')
{%- endmacro -%}

{#- Without blank lines at the ends, and never more than one in a row. -#}
{%- macro tidy_blank_lines(text) -%}
  {{ return(adapter.dispatch('tidy_blank_lines')(text)) }}
{%- endmacro -%}

{%- macro duckdb__tidy_blank_lines(text) -%}
  trim(regexp_replace({{ text }}, '\n{3,}', chr(10) || chr(10), 'g'), chr(10))
{%- endmacro -%}

{#- A row per element of a list column. -#}
{%- macro each_of(list) -%}
  {{ return(adapter.dispatch('each_of')(list)) }}
{%- endmacro -%}

{%- macro duckdb__each_of(list) -%}
  unnest({{ list }})
{%- endmacro -%}

{#- 1, 2, 3 ... beside each_of. -#}
{%- macro position_in(list) -%}
  {{ return(adapter.dispatch('position_in')(list)) }}
{%- endmacro -%}

{%- macro duckdb__position_in(list) -%}
  generate_subscripts({{ list }}, 1)
{%- endmacro -%}

{%- macro sha256_hex(text) -%}
  {{ return(adapter.dispatch('sha256_hex')(text)) }}
{%- endmacro -%}

{%- macro duckdb__sha256_hex(text) -%}
  sha256({{ text }})
{%- endmacro -%}

{#- What two texts must share to be the same text: words in order, whatever the spaces and capitals. -#}
{%- macro plain_words(text) -%}
  {{ return(adapter.dispatch('plain_words')(text)) }}
{%- endmacro -%}

{%- macro duckdb__plain_words(text) -%}
  regexp_extract_all(lower({{ text }}), '[\p{L}\p{N}_]+')
{%- endmacro -%}

{#-
  Hashes of the distinct runs of n words out of a list of words; of the whole list if it is shorter. The words are named
  one by one: a slice of the list would be copied for every run, and the time grow with the square of the text.
-#}
{%- macro shingles(words, n) -%}
  {{ return(adapter.dispatch('shingles')(words, n)) }}
{%- endmacro -%}

{%- macro duckdb__shingles(words, n) -%}
  list_distinct(list_transform(
    range(1, greatest(len({{ words }}) - {{ n }} + 1, 1) + 1),
    lambda i: hash({% for k in range(n) %}{{ words }}[i + {{ k }}]{{ ", " if not loop.last }}{% endfor %})
  ))
{%- endmacro -%}

{#- How many elements two lists of distinct elements, none of them null, share; list_intersect would take longer. -#}
{%- macro count_shared(a, b) -%}
  {{ return(adapter.dispatch('count_shared')(a, b)) }}
{%- endmacro -%}

{%- macro duckdb__count_shared(a, b) -%}
  len({{ a }}) + len({{ b }}) - list_unique(list_concat({{ a }}, {{ b }}))
{%- endmacro -%}

{%- macro count_elements(list) -%}
  {{ return(adapter.dispatch('count_elements')(list)) }}
{%- endmacro -%}

{%- macro duckdb__count_elements(list) -%}
  len({{ list }})
{%- endmacro -%}

{#- Whether a text's paragraphs are parted by blank lines; else every line is one. -#}
{%- macro has_blank_lines(text) -%}
  {{ return(adapter.dispatch('has_blank_lines')(text)) }}
{%- endmacro -%}

{%- macro duckdb__has_blank_lines(text) -%}
  contains({{ text }}, chr(10) || chr(10))
{%- endmacro -%}

{#- List of the paragraphs of a text: parted by a blank line, or by line where there is none (ingest/paragraphs.py). -#}
{%- macro paragraphs_of(text) -%}
  {{ return(adapter.dispatch('paragraphs_of')(text)) }}
{%- endmacro -%}

{%- macro duckdb__paragraphs_of(text) -%}
  string_split({{ text }}, case when {{ has_blank_lines(text) }} then chr(10) || chr(10) else chr(10) end)
{%- endmacro -%}

{#- Paragraphs of a group joined again in order, by blank lines or by lines, as has_blank_lines said of their text. -#}
{%- macro join_paragraphs(paragraph, position, by_blank_lines) -%}
  {{ return(adapter.dispatch('join_paragraphs')(paragraph, position, by_blank_lines)) }}
{%- endmacro -%}

{%- macro duckdb__join_paragraphs(paragraph, position, by_blank_lines) -%}
  case
    when {{ by_blank_lines }} then array_to_string(list({{ paragraph }} order by {{ position }}), chr(10) || chr(10))
    else array_to_string(list({{ paragraph }} order by {{ position }}), chr(10))
  end
{%- endmacro -%}

{#- Share of the characters that are in another language, of those in any; null for a list that is null or without. -#}
{%- macro other_language_share(paragraphs, language) -%}
  {{ return(adapter.dispatch('other_language_share')(paragraphs, language)) }}
{%- endmacro -%}

{%- macro duckdb__other_language_share(paragraphs, language) -%}
  cast(list_sum(list_transform({{ paragraphs }}, lambda p:
    case when p.language in ({{ quoted(language) }}, 'und') then 0 else p.characters end)) as double)
  / nullif(list_sum(list_transform({{ paragraphs }}, lambda p:
    case when p.language = 'und' then 0 else p.characters end)), 0)
{%- endmacro -%}

{#- A null of the type of column paragraph_languages. -#}
{%- macro no_paragraph_languages() -%}
  {{ return(adapter.dispatch('no_paragraph_languages')()) }}
{%- endmacro -%}

{%- macro duckdb__no_paragraph_languages() -%}
  case when false then [{'language': '', 'score': cast(0 as double), 'characters': cast(0 as bigint)}] end
{%- endmacro -%}
