with compared as (
    select * from {{ ref('int_pages_compared') }}
),

final as (
    select distinct
        words_sha256_low,
        words_sha256_high,
        jaccard
    from compared
    order by words_sha256_low, words_sha256_high
)

select * from final
