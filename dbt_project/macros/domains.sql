{#- What a document's domain is called (the study's guard.domain): its site, its corpus, or one for all. -#}
{%- macro domain_column() -%}
  {%- set columns = {'site': 'site', 'corpus': 'corpus', 'all': "'all'"} -%}
  {{ return(columns[var('guard')['domain']] if execute else 'site') }}
{%- endmacro -%}

{#- A setting of the study's guard; there is none yet while the project is parsed. -#}
{%- macro guard_setting(name) -%}
  {{ return(var('guard')[name] if execute else 0) }}
{%- endmacro -%}
