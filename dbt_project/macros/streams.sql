{#- A number that shuffles rows reproducibly: the same on every engine, whatever the order rows come in. -#}
{%- macro shuffle_key(seed, id) -%}
  {{ return(adapter.dispatch('shuffle_key')(seed, id)) }}
{%- endmacro -%}

{%- macro default__shuffle_key(seed, id) -%}
  md5(cast({{ seed }} as varchar) || ':' || {{ id }})
{%- endmacro -%}

{#- Texts of a group, joined without separator in the given order. -#}
{%- macro join_text(text, order) -%}
  {{ return(adapter.dispatch('join_text')(text, order)) }}
{%- endmacro -%}

{%- macro duckdb__join_text(text, order) -%}
  string_agg({{ text }}, '' order by {{ order }})
{%- endmacro -%}
