-- Row conservation inside a document: a text whose words are not those that were extracted less those that were cut.
with changes as (
    select * from {{ ref('document_changes') }}
),

final as (
    select
        url,
        words_extracted,
        words,
        other_language_words_cut,
        site_words_cut,
        repeat_words_cut
    from changes
    where words_extracted <> words + other_language_words_cut + site_words_cut + repeat_words_cut
)

select * from final
