-- G5: no text that is trained on lies deeper than the study allows, and none has an unknown depth. A warning here: up
-- to two models between a text and people a person may waive, and the gate asks.
{{ config(severity='warn') }}

with shares as (
    select * from {{ ref('mix_shares') }}
),

final as (
    select
        recipe,
        domain,
        depth,
        trained_tokens
    from shares
    where
        trained_tokens > 0
        and (depth is null or depth > {{ guard_setting('depth_max') }})
)

select * from final
