-- depends_on: {{ ref('stg_lake__page_changes') }}
-- Pages without the paragraphs in another language than the corpus'; as they are where that rule is off. A paragraph
-- without a letter, or shorter than the rule asks for, is in no language.
{%- set is_other -%}
paragraphs.found.language not in ({{ quoted(threshold('language')) }}, 'und')
            and paragraphs.found.score >= {{ threshold('other_language_score') }}
            and paragraphs.found.characters >= {{ threshold('other_language_characters') }}
{%- endset %}
{{ config(materialized='view') }}
with pages as (
    select * from {{ ref('stg_lake__pages') }}
),

{% if threshold('drop_other_language') -%}
measured as (
    select * from {{ ref('stg_lake__page_changes') }}
),

parted as (
    select
        pages.page_id,
        pages.text,
        measured.paragraph_languages,
        {{ has_blank_lines('pages.text') }} as has_blank_lines
    from pages
    inner join measured on pages.page_id = measured.page_id
),

paragraphs as (
    select
        page_id,
        has_blank_lines,
        {{ each_of(paragraphs_of('text')) }} as paragraph,
        {{ position_in(paragraphs_of('text')) }} as position,
        {{ each_of('paragraph_languages') }} as found
    from parted
),

judged as (
    select
        paragraphs.page_id,
        paragraphs.has_blank_lines,
        paragraphs.paragraph,
        paragraphs.position,
        coalesce(
            {{ is_other }},
            false
        ) as is_other
    from paragraphs
),

cuts as (
    select
        page_id,
        count(*) as other_language_paragraphs_cut,
        sum({{ count_words('paragraph') }}) as other_language_words_cut
    from judged
    where is_other
    group by page_id
),

rest as (
    select
        page_id,
        {{ join_paragraphs('paragraph', 'position', 'has_blank_lines') }} as text
    from judged
    where not is_other
    group by page_id, has_blank_lines
),

final as (
    select
        pages.* exclude (text),
        coalesce(rest.text, '') as text,
        coalesce(cuts.other_language_paragraphs_cut, 0) as other_language_paragraphs_cut,
        coalesce(cuts.other_language_words_cut, 0) as other_language_words_cut
    from pages
    left join rest on pages.page_id = rest.page_id
    left join cuts on pages.page_id = cuts.page_id
)
{%- else -%}
final as (
    select
        *,
        0 as other_language_paragraphs_cut,
        0 as other_language_words_cut
    from pages
)
{%- endif %}

select * from final
