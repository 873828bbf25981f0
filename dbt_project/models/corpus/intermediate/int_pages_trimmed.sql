-- Site furniture that extraction leaves in (breadcrumbs, notices under every article) is known by standing on most
-- addresses of its site; a sentence that a site repeats, where that rule is on, by standing on many, and the earliest
-- page keeps it: of each address the latest capture, for an older one gives way to it. Code and lines without a letter
-- or digit are nobody's furniture. Scores were taken of the whole page; of a text that loses something, words are
-- counted and near duplicates sought by what is left.
{%- set fewest = [threshold('site_line_pages'), threshold('site_repeat_pages') or threshold('site_line_pages')] | min %}
with pages as (
    select * from {{ ref('int_pages_in_language') }}
),

sites as (
    select
        site,
        count(distinct url) as addresses
    from pages
    group by site
    having count(distinct url) >= {{ fewest }}
),

lines as (
    select
        pages.page_id,
        pages.site,
        pages.url,
        pages.fetched_at,
        sites.addresses,
        {{ has_fences('pages.text') }} as has_fences,
        {{ each_of(lines_of('pages.text')) }} as line,
        {{ position_in(lines_of('pages.text')) }} as position
    from pages
    inner join sites on pages.site = sites.site
),

fences as (
    select
        page_id,
        position,
        {{ is_fence('line') }} as is_fence,
        count(*) filter (where {{ is_fence('line') }}) over (partition by page_id order by position) as so_far
    from lines
    where has_fences
),

prose as (
    select lines.*
    from lines
    left join fences on lines.page_id = fences.page_id and lines.position = fences.position
    where {{ has_letters('lines.line') }} and not coalesce(fences.is_fence or fences.so_far % 2 = 1, false)
),

furniture as (
    select
        site,
        line
    from prose
    where addresses >= {{ threshold('site_line_pages') }}
    group by site, line, addresses
    having count(distinct url) >= {{ threshold('site_line_share') }} * addresses
),

{% if threshold('site_repeat_pages') -%}
repeated as (
    select
        site,
        line
    from prose
    where {{ count_words('line') }} >= {{ threshold('site_repeat_words') }}
    group by site, line
    having count(distinct url) >= {{ threshold('site_repeat_pages') }}
),

captures as (
    select
        page_id,
        {{ is_superseded() }} as is_superseded
    from pages
),

sighted as (
    select
        prose.page_id,
        prose.position,
        prose.url,
        first_value(prose.url) over earliest as first_url,
        first_value(prose.page_id) over earliest as first_page_id
    from prose
    inner join repeated on prose.site = repeated.site and prose.line = repeated.line
    inner join captures on prose.page_id = captures.page_id
    window earliest as (
        partition by prose.site, prose.line
        order by captures.is_superseded, prose.fetched_at, prose.url, prose.page_id, prose.position
    )
),

repeats as (
    select
        page_id,
        position,
        first_page_id as kept_by
    from sighted
    where url <> first_url
),

{% else -%}
repeats as (
    select
        page_id,
        position,
        page_id as kept_by
    from prose
    where false
),

{% endif -%}
cut_lines as (
    select
        prose.page_id,
        prose.position,
        prose.line,
        repeats.kept_by,
        furniture.line is not null as is_furniture
    from prose
    left join furniture on prose.site = furniture.site and prose.line = furniture.line
    left join repeats on prose.page_id = repeats.page_id and prose.position = repeats.position
    where furniture.line is not null or repeats.page_id is not null
),

cuts as (
    select
        page_id,
        sum(case when is_furniture then 1 else 0 end) as site_lines_cut,
        sum(case when is_furniture then {{ count_words('line') }} else 0 end) as site_words_cut,
        sum(case when is_furniture then 0 else 1 end) as repeat_lines_cut,
        sum(case when is_furniture then 0 else {{ count_words('line') }} end) as repeat_words_cut,
        list(kept_by) filter (where not is_furniture) as repeat_lines_kept_by
    from cut_lines
    group by page_id
),

rest as (
    select
        lines.page_id,
        {{ join_lines('lines.line', 'lines.position') }} as text
    from lines
    inner join cuts on lines.page_id = cuts.page_id
    left join cut_lines on lines.page_id = cut_lines.page_id and lines.position = cut_lines.position
    where cut_lines.page_id is null
    group by lines.page_id
),

shortened as (
    select
        pages.* exclude (text),
        case when cuts.page_id is null then pages.text else coalesce(rest.text, '') end as untidy_text,
        cuts.page_id is not null or pages.other_language_paragraphs_cut > 0 as is_shorter,
        coalesce(cuts.site_lines_cut, 0) as site_lines_cut,
        coalesce(cuts.site_words_cut, 0) as site_words_cut,
        coalesce(cuts.repeat_lines_cut, 0) as repeat_lines_cut,
        coalesce(cuts.repeat_words_cut, 0) as repeat_words_cut,
        cuts.repeat_lines_kept_by
    from pages
    left join rest on pages.page_id = rest.page_id
    left join cuts on pages.page_id = cuts.page_id
),

trimmed as (
    select
        * exclude (untidy_text),
        {{ tidy_blank_lines('untidy_text') }} as text
    from shortened
),

final as (
    select
        * exclude (minhash_bands, is_shorter),
        {{ count_words('text') }} as words,
        case
            when is_shorter
                then {{ minhash_bands('text', threshold('shingle_words'), threshold('near_duplicate_jaccard')) }}
            else minhash_bands
        end as minhash_bands
    from trimmed
)

select * from final
