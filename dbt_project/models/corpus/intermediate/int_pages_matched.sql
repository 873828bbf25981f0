-- Pages that pass alone: older captures of a url, then exact copies. The earliest page (then the lowest url) survives.
with judged as (
    select * from {{ ref('int_pages_judged') }}
),

captures as (
    select
        *,
        row_number() over (partition by url order by fetched_at desc, page_id asc) > 1 as is_superseded,
        {{ sha256_hex("array_to_string(" ~ plain_words('text') ~ ", ' ')") }} as words_sha256
    from judged
    where rule is null
),

current_captures as (
    select
        page_id,
        first_value(url) over (partition by words_sha256 order by fetched_at, url) as original_url,
        row_number() over (partition by words_sha256 order by fetched_at, url) as copy
    from captures
    where not is_superseded
),

final as (
    select
        captures.page_id,
        captures.url,
        captures.text,
        captures.fetched_at,
        captures.minhash_bands,
        case
            when captures.is_superseded then 'url.superseded'
            {% if enabled_rule('duplicates.exact') -%}
            when current_captures.copy > 1 then 'duplicates.exact'
            {%- endif %}
        end as rule,
        case
            when captures.is_superseded then captures.url
            when current_captures.copy > 1 then current_captures.original_url
        end as duplicate_of
    from captures
    left join current_captures on captures.page_id = current_captures.page_id
)

select * from final
