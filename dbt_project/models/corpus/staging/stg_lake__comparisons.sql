with source as (
    select * from {{ source('lake', 'comparisons') }}
),

final as (
    select
        words_sha256_low,
        words_sha256_high,
        jaccard
    from source
)

select * from final
