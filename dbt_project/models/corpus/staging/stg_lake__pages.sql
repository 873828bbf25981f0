with source as (
    select * from {{ source('lake', 'pages') }}
),

final as (
    select * from source
)

select * from final
