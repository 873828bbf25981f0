{#- Whether a page gives way to a later capture of its address. -#}
{%- macro is_superseded() -%}
  row_number() over (partition by url order by fetched_at desc, page_id asc) > 1
{%- endmacro -%}

{#- The keys of a text under which near duplicates meet (ingest/minhash.py, by way of dbt_functions.py). -#}
{%- macro minhash_bands(text, shingle_words, jaccard) -%}
  {{ return(adapter.dispatch('minhash_bands')(text, shingle_words, jaccard)) }}
{%- endmacro -%}

{%- macro duckdb__minhash_bands(text, shingle_words, jaccard) -%}
  minhash_bands({{ text }}, {{ shingle_words }}, {{ jaccard }})
{%- endmacro -%}

{#- Which of the n pages before it in a band the next one is held against: the first 64 and the last 16. -#}
{%- macro earlier_seats(seat) -%}
  {{ return(adapter.dispatch('earlier_seats')(seat)) }}
{%- endmacro -%}

{%- macro duckdb__earlier_seats(seat) -%}
  list_concat(range(1, least({{ seat }}, 65)), range(greatest({{ seat }} - 16, 65), {{ seat }}))
{%- endmacro -%}

{#-
  A table (place, lowest): the lowest place that edges (place, other_place; both ways) lead to from each. A place takes
  on what those beside it have found, and what the one that it has found has found: by the former alone a chain of pages
  would take a round for each of them.
-#}
{%- macro lowest_reached(edges) -%}
  {{ return(adapter.dispatch('lowest_reached')(edges)) }}
{%- endmacro -%}

{%- macro duckdb__lowest_reached(edges) -%}
(
  with recursive found(place, lowest) using key (place) as (
    select place, least(place, min(other_place)) from {{ edges }} group by place
    union
    select place, min(lowest)
    from (
      select {{ edges }}.other_place as place, found.lowest
      from found
      inner join {{ edges }} on found.place = {{ edges }}.place
      inner join recurring.found as known on {{ edges }}.other_place = known.place
      where found.lowest < known.lowest
      union all
      select known.place, further.lowest
      from recurring.found as known
      inner join recurring.found as further on known.lowest = further.place
      where further.lowest < known.lowest
    )
    group by place
  )
  select * from found
)
{%- endmacro -%}
