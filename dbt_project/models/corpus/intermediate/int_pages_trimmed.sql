-- Site furniture that extraction leaves in (breadcrumbs, notices under every article) is known by standing on most
-- pages of its site. Scores were taken of the whole page; words are counted again here.
with pages as (
    select * from {{ ref('stg_lake__pages') }}
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

rest as (
    select
        lines.page_id,
        {{ join_lines('lines.line', 'lines.position') }} as text
    from lines
    left join furniture on lines.site = furniture.site and lines.line = furniture.line
    where furniture.line is null
    group by lines.page_id
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
        coalesce({{ count_words('trimmed.text') }}, 0) as words
    from pages
    left join trimmed on pages.page_id = trimmed.page_id
)

select * from final
