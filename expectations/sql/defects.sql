-- One row per strategy that is written by a model and defect a review looks for, found or not.
with reviewed as (
    select
        strategy,
        defects,
        null as reason
    from generations
    union all
    select
        strategy,
        defects,
        reason
    from generation_drops
),

totals as (
    select
        strategy,
        count(*) as reviewed
    from reviewed
    group by strategy
),

found as (
    select
        strategy,
        unnest(list_distinct(defects)) as defect,
        reason
    from reviewed
),

counts as (
    select
        strategy,
        defect,
        count(*) as found,
        count(*) filter (where reason is null) as kept,
        count(*) filter (where reason = defect) as dropped_for_it
    from found
    group by strategy, defect
),

names as (
    select
        asked_strategies.strategy,
        review_defects.defect
    from asked_strategies
    cross join review_defects
    where asked_strategies.kind <> 'augment'
    union
    select
        strategy,
        defect
    from counts
),

final as (
    select
        names.strategy || ': ' || names.defect as defect,
        names.strategy,
        coalesce(totals.reviewed, 0) as reviewed,
        coalesce(counts.found, 0) as found,
        coalesce(counts.kept, 0) as kept,
        coalesce(counts.dropped_for_it, 0) as dropped_for_it,
        coalesce(counts.found / totals.reviewed, 0) as found_share,
        coalesce(counts.dropped_for_it / totals.reviewed, 0) as dropped_share
    from names
    left join totals on names.strategy = totals.strategy
    left join counts on names.strategy = counts.strategy and names.defect = counts.defect
    order by dropped_share desc, found_share desc, names.strategy, names.defect
)

select * from final
