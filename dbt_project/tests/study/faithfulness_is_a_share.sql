-- Faithfulness lies between 0 and 1 where there is one.
with generations as (
    select * from {{ ref('stg_study__generations') }}
),

final as (
    select
        strategy,
        document_id,
        g,
        faithfulness
    from generations
    where faithfulness < 0 or faithfulness > 1
)

select * from final
