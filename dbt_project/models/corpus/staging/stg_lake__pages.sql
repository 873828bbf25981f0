with source as (
    select * from {{ source('lake', 'pages') }}
),

final as (
    select
        page_id,
        url,
        site,
        title,
        text,
        fetched_at,
        day,
        language,
        language_score,
        mean_word_length,
        symbol_ratio,
        alphabetic_words,
        stop_words,
        bullet_lines,
        ellipsis_lines,
        duplicate_lines,
        duplicate_line_characters,
        duplicate_paragraphs,
        duplicate_paragraph_characters,
        top_2gram,
        top_3gram,
        top_4gram,
        duplicate_5grams,
        duplicate_6grams,
        duplicate_7grams,
        duplicate_8grams,
        duplicate_9grams,
        duplicate_10grams,
        lorem_ipsum,
        curly_brackets,
        policy_words,
        sentences,
        lines_punctuated,
        short_lines,
        newlines_per_word,
        {%- for figure in datatrove_figures() %}
        {{ figure }},
        {%- endfor %}
        minhash_bands
    from source
)

select * from final
