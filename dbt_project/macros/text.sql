{#- Text functions: every engine spells them differently. Each takes and gives an SQL expression. -#}

{#- Number of words: runs of anything but white space. -#}
{%- macro count_words(text) -%}
  {{ return(adapter.dispatch('count_words')(text)) }}
{%- endmacro -%}

{%- macro duckdb__count_words(text) -%}
  len(regexp_extract_all({{ text }}, '\S+'))
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

{#- Distinct runs of n words out of a list of words; the whole list if it is shorter. -#}
{%- macro shingles(words, n) -%}
  {{ return(adapter.dispatch('shingles')(words, n)) }}
{%- endmacro -%}

{%- macro duckdb__shingles(words, n) -%}
  list_distinct(list_transform(
    range(1, greatest(len({{ words }}) - {{ n }} + 1, 1) + 1),
    lambda i: array_to_string({{ words }}[i:i + {{ n - 1 }}], ' ')
  ))
{%- endmacro -%}

{#- Size of the intersection over size of the union of two lists of distinct elements. -#}
{%- macro jaccard(a, b) -%}
  {{ return(adapter.dispatch('jaccard')(a, b)) }}
{%- endmacro -%}

{%- macro duckdb__jaccard(a, b) -%}
  (len(list_intersect({{ a }}, {{ b }})) / nullif(len({{ a }}) + len({{ b }}) - len(list_intersect({{ a }}, {{ b }})), 0))
{%- endmacro -%}
