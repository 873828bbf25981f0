{#- A view per entry of var('inputs') in schema `lake`, where the sources of every model look: {name: [files]}. -#}
{%- macro open_inputs() -%}
  {{ return(adapter.dispatch('open_inputs')()) }}
{%- endmacro -%}

{%- macro duckdb__open_inputs() -%}
  {%- if execute -%}
    create schema if not exists lake;
    {%- for name, files in var('inputs', {}).items() %}
    create or replace view lake.{{ adapter.quote(name) }} as
      select * from read_parquet([{% for file in files %}{{ quoted(file) }}{{ ", " if not loop.last }}{% endfor %}]);
    {%- endfor -%}
  {%- endif -%}
{%- endmacro -%}

{#- A value as an SQL string literal. -#}
{%- macro quoted(value) -%}
  '{{ value | string | replace("'", "''") }}'
{%- endmacro -%}

{#- A column that the pages hold where the corpus asks for it (var 'cleaning'), else the expression given. -#}
{%- macro asked_for(column, otherwise) -%}
  {{ return(column if column in var('cleaning', []) else otherwise) }}
{%- endmacro -%}
