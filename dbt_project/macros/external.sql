{#- Where a mart is written: var('out'), known only when the SQL is rendered. -#}
{%- macro published_file(relation) -%}
  {{ var('out') }}/{{ relation.identifier }}.parquet
{%- endmacro -%}

{#-
  A mart as one Parquet file with the same bytes for the same rows; the model states the order of its rows.
  Replaces dbt-duckdb's own: that one reads the folder when the project is parsed, and writes a row of nulls for an empty table.
-#}
{%- materialization external, adapter='duckdb' -%}
  {%- set target = this.incorporate(type='view') -%}
  {%- set rows = make_intermediate_relation(this.incorporate(type='table'), suffix='__rows') -%}
  {%- set file = quoted(published_file(this)) -%}
  {{ run_hooks(pre_hooks) }}
  {%- call statement('create_rows') -%}
    {{ create_table_as(False, rows, compiled_code) }}
  {%- endcall -%}
  {%- call statement('write_file') -%}
    copy (select * from {{ rows }}) to {{ file }}
      (format parquet, compression zstd, row_group_size 122880, per_thread_output false)
  {%- endcall -%}
  {%- call statement('main') -%}
    create or replace view {{ target }} as select * from read_parquet({{ file }})
  {%- endcall -%}
  {%- do adapter.drop_relation(rows) -%}
  {{ run_hooks(post_hooks) }}
  {{ adapter.commit() }}
  {{ return({'relations': [target]}) }}
{%- endmaterialization -%}
