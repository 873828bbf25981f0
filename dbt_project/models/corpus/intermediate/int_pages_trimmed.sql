-- Site furniture that extraction leaves in (breadcrumbs, notices under every article) is known by standing on most
-- pages of its site; a sentence that a site repeats, where that rule is on, by standing on many, and the earliest page
-- keeps it: of each address the latest capture, for an older one gives way to it. Scores were taken of the whole page;
-- words are counted again here.
with pages as (
    select * from {{ ref('int_pages_in_language') }}
),

sites as (
    select
        site,
        count(*) as site_pages
    from pages
    group by site
),

lines as (
    select
        page_id,
        site,
        url,
        fetched_at,
        {{ each_of(lines_of('text')) }} as line,
        {{ position_in(lines_of('text')) }} as position
    from pages
),

furniture as (
    select
        lines.site,
        lines.line
    from lines
    inner join sites on lines.site = sites.site
    where sites.site_pages >= {{ threshold('site_line_pages') }} and trim(lines.line) <> ''
    group by lines.site, lines.line, sites.site_pages
    having count(distinct lines.page_id) >= {{ threshold('site_line_share') }} * sites.site_pages
),

{% if threshold('site_repeat_pages') -%}
repeated as (
    select
        site,
        line
    from lines
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
        lines.page_id,
        lines.position,
        lines.url,
        first_value(lines.url) over earliest as first_url,
        first_value(lines.page_id) over earliest as first_page_id
    from lines
    inner join repeated on lines.site = repeated.site and lines.line = repeated.line
    inner join captures on lines.page_id = captures.page_id
    window earliest as (
        partition by lines.site, lines.line
        order by captures.is_superseded, lines.fetched_at, lines.url, lines.page_id, lines.position
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
    from lines
    where false
),

{% endif -%}
marked as (
    select
        lines.page_id,
        lines.line,
        lines.position,
        repeats.kept_by,
        furniture.line is not null as is_furniture,
        furniture.line is null and repeats.page_id is not null as is_repeat
    from lines
    left join furniture on lines.site = furniture.site and lines.line = furniture.line
    left join repeats on lines.page_id = repeats.page_id and lines.position = repeats.position
),

rest as (
    select
        page_id,
        {{ join_lines('line', 'position') }} as text
    from marked
    where not is_furniture and not is_repeat
    group by page_id
),

cuts as (
    select
        page_id,
        sum(case when is_furniture then 1 else 0 end) as site_lines_cut,
        sum(case when is_furniture then {{ count_words('line') }} else 0 end) as site_words_cut,
        sum(case when is_repeat then 1 else 0 end) as repeat_lines_cut,
        sum(case when is_repeat then {{ count_words('line') }} else 0 end) as repeat_words_cut,
        list(kept_by) filter (where is_repeat) as repeat_lines_kept_by
    from marked
    where is_furniture or is_repeat
    group by page_id
),

trimmed as (
    select
        page_id,
        {{ tidy_blank_lines('text') }} as text
    from rest
),

final as (
    select
        pages.* exclude (text),
        coalesce(trimmed.text, '') as text,
        coalesce({{ count_words('trimmed.text') }}, 0) as words,
        coalesce(cuts.site_lines_cut, 0) as site_lines_cut,
        coalesce(cuts.site_words_cut, 0) as site_words_cut,
        coalesce(cuts.repeat_lines_cut, 0) as repeat_lines_cut,
        coalesce(cuts.repeat_words_cut, 0) as repeat_words_cut,
        cuts.repeat_lines_kept_by
    from pages
    left join trimmed on pages.page_id = trimmed.page_id
    left join cuts on pages.page_id = cuts.page_id
)

select * from final
