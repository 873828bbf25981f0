with decided as (
    select * from {{ ref('int_pages_decided') }}
),

final as (
    select
        page_id,
        url,
        reason,
        rule,
        cast(value as double) as value,
        cast(threshold as double) as threshold,
        duplicate_of
    from decided
    where rule is not null
    order by url, page_id
)

select * from final
