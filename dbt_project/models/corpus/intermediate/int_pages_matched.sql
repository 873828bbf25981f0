-- Pages that pass alone: older captures of a url, then exact copies. The earliest page (then the lowest url) survives.
-- Windows are over narrow rows: a text is read for its digest and not carried through a sort.
with judged as (
    select * from {{ ref('int_pages_judged') }}
),

digested as materialized (
    select
        page_id,
        url,
        fetched_at,
        {{ sha256_hex("array_to_string(" ~ plain_words('text') ~ ", ' ')") }} as words_sha256
    from judged
    where rule is null
),

captures as (
    select
        *,
        {{ is_superseded() }} as is_superseded
    from digested
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
        captures.fetched_at,
        captures.words_sha256,
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
