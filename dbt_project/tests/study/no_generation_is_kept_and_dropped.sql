-- A generation is used or dropped for a reason, never both.
with kept as (
    select * from {{ ref('stg_study__generations') }}
),

dropped as (
    select * from {{ ref('stg_study__generation_drops') }}
),

final as (
    select
        kept.strategy,
        kept.document_id,
        kept.g,
        dropped.reason
    from kept
    inner join dropped
        on kept.strategy = dropped.strategy and kept.document_id = dropped.document_id and kept.g = dropped.g
)

select * from final
