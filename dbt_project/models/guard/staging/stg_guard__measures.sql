with source as (
    select * from {{ source('guard', 'guard_measures') }}
),

final as (
    select
        strategy,
        generator,
        metric,
        value,
        real_mean,
        real_sd,
        data_until,
        version,
        version_number
    from source
)

select * from final
