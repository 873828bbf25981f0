with documents as (
    select * from {{ ref('documents') }}
),

extracted as (
    select
        page_id,
        {{ count_words('text') }} as words_extracted
    from {{ ref('stg_lake__pages') }}
),

trimmed as (
    select * from {{ ref('int_pages_trimmed') }}
),

measured as (
    select * from {{ ref('stg_lake__page_changes') }}
),

kept_by as (
    select
        page_id,
        {{ each_of('repeat_lines_kept_by') }} as keeper
    from trimmed
),

lost as (
    select
        kept_by.page_id,
        count(*) as repeat_lines
    from kept_by
    left join documents on kept_by.keeper = documents.page_id
    where documents.page_id is null
    group by kept_by.page_id
),

final as (
    select
        documents.document_id,
        documents.page_id,
        documents.url,
        cast(extracted.words_extracted as bigint) as words_extracted,
        documents.words,
        {%- for cut in ['other_language_paragraphs', 'other_language_words', 'site_lines', 'site_words', 'repeat_lines',
            'repeat_words'] %}
        cast(trimmed.{{ cut }}_cut as bigint) as {{ cut }}_cut,
        {%- endfor %}
        coalesce(lost.repeat_lines, 0) as repeat_lines_lost,
        measured.repaired,
        {%- for kind in ['email', 'phone', 'ip', 'iban', 'card', 'national_id', 'secret'] %}
        measured.pii_{{ kind }},
        {%- endfor %}
        measured.paragraph_languages,
        {{ other_language_share('measured.paragraph_languages', threshold('language')) }} as other_language_share
    from documents
    inner join extracted on documents.page_id = extracted.page_id
    inner join trimmed on documents.page_id = trimmed.page_id
    inner join measured on documents.page_id = measured.page_id
    left join lost on documents.page_id = lost.page_id
    order by documents.url, documents.page_id
)

select * from final
