#include "model/chat_tables.h"

// DeepSeek's markers are written with U+FF5C and U+2581.
#define DS_BAR     "\xef\xbd\x9c"
#define DS_END     "<" DS_BAR "end\xe2\x96\x81of\xe2\x96\x81sentence" DS_BAR ">"
#define DS_USER    "<" DS_BAR "User" DS_BAR ">"
#define DS_REPLY   "<" DS_BAR "Assistant" DS_BAR ">"
#define CR_TURN    "<|START_OF_TURN_TOKEN|>"
#define CR_END     "<|END_OF_TURN_TOKEN|>"
#define L3(role)   "<|start_header_id|>" role "<|end_header_id|>\n\n"
#define L4(role)   "<|header_start|>" role "<|header_end|>\n\n"
#define GR(role)   "<|start_of_role|>" role "<|end_of_role|>"
#define PHI4(role) "<|im_start|>" role "<|im_sep|>"
#define CHATML_RULES(label)                                                                        \
    {                                                                                              \
        .name = label,                                                                             \
        .open = {"<|im_start|>system\n", "<|im_start|>user\n", "<|im_start|>assistant\n"},         \
        .close = {"<|im_end|>\n", "<|im_end|>\n"}, .prompt = "<|im_start|>assistant\n",            \
        .reply_end = "<|im_end|>", .reply_tail = "\n", .stops = {"<|im_end|>"},                    \
    }

// Each row is the template published with the models named behind it.
const stk_chat_rules stk_chat_rules_table[STK_CHAT_FORMAT_COUNT] = {
    [STK_CHAT_UNKNOWN] = CHATML_RULES("unknown"),
    [STK_CHAT_CHATML] = CHATML_RULES("chatml"), // Qwen2, Qwen3, SmallThinker
    [STK_CHAT_LLAMA_2] =                        // meta-llama/Llama-2-7b-chat-hf
    {.name = "llama2",
     .open = {"<<SYS>>\n", "[INST] ", " "},
     .close = {"\n<</SYS>>\n\n", " [/INST]"},
     .user_again = "<s>[INST] ",
     .prompt = "",
     .reply_end = " </s>",
     .reply_tail = "",
     .system_in_user = true,
     .trims = true,
     .trims_assistant = true,
     .stops = {"</s>", "[INST]"}},
    [STK_CHAT_LLAMA_3] = // meta-llama/Meta-Llama-3-8B-Instruct
    {.name = "llama3",
     .open = {L3("system"), L3("user"), L3("assistant")},
     .close = {"<|eot_id|>", "<|eot_id|>"},
     .prompt = L3("assistant"),
     .reply_end = "<|eot_id|>",
     .reply_tail = "",
     .trims = true,
     .trims_assistant = true,
     .stops = {"<|eot_id|>"}},
    [STK_CHAT_LLAMA_4] = // meta-llama/Llama-4-Scout-17B-16E-Instruct
    {.name = "llama4",
     .open = {L4("system"), L4("user"), L4("assistant")},
     .close = {"<|eot|>", "<|eot|>"},
     .prompt = L4("assistant"),
     .reply_end = "<|eot|>",
     .reply_tail = "",
     .trims = true,
     .trims_assistant = true,
     .stops = {"<|eot|>"}},
    [STK_CHAT_MISTRAL_V0] = // mistralai/Mistral-7B-Instruct-v0.1, Mixtral-8x7B-Instruct-v0.1
    {.name = "mistral-v0",
     .open = {"", "[INST] ", ""},
     .close = {"\n\n", " [/INST]"},
     .prompt = "",
     .reply_end = "</s>",
     .reply_tail = "",
     .system_in_user = true,
     .stops = {"</s>"}},
    [STK_CHAT_MISTRAL_V1] = // mistralai/Mistral-7B-Instruct-v0.2
    {.name = "mistral-v1",
     .open = {"", " [INST] ", " "},
     .close = {"\n\n", " [/INST]"},
     .prompt = "",
     .reply_end = "</s>",
     .reply_tail = "",
     .system_in_user = true,
     .stops = {"</s>"}},
    [STK_CHAT_MISTRAL_V3] = // mistralai/Mistral-Large-Instruct-2407
    {.name = "mistral-v3",
     .open = {"", "[INST] ", " "},
     .close = {"\n\n", "[/INST]"},
     .prompt = "",
     .reply_end = "</s>",
     .reply_tail = "",
     .system_in_user = true,
     .trims_assistant = true,
     .stops = {"</s>"}},
    [STK_CHAT_MISTRAL_V3_TEKKEN] = // mistralai/Mistral-Nemo-Instruct-2407
    {.name = "mistral-v3-tekken",
     .open = {"", "[INST]", ""},
     .close = {"\n\n", "[/INST]"},
     .prompt = "",
     .reply_end = "</s>",
     .reply_tail = "",
     .system_in_user = true,
     .stops = {"</s>"}},
    [STK_CHAT_MISTRAL_V7] = // mistralai/Mistral-Large-Instruct-2411
    {.name = "mistral-v7",
     .open = {"[SYSTEM_PROMPT] ", "[INST] ", " "},
     .close = {"[/SYSTEM_PROMPT]", "[/INST]"},
     .prompt = "",
     .reply_end = "</s>",
     .reply_tail = "",
     .stops = {"</s>"}},
    [STK_CHAT_MISTRAL_V7_TEKKEN] = // mistralai/Mistral-Small-24B-Instruct-2501
    {.name = "mistral-v7-tekken",
     .open = {"[SYSTEM_PROMPT]", "[INST]", ""},
     .close = {"[/SYSTEM_PROMPT]", "[/INST]"},
     .prompt = "",
     .reply_end = "</s>",
     .reply_tail = "",
     .stops = {"</s>"}},
    [STK_CHAT_GEMMA] = // google/gemma-3-4b-it; earlier ones refuse a system prompt
    {.name = "gemma",
     .open = {"", "<start_of_turn>user\n", "<start_of_turn>model\n"},
     .close = {"\n\n", "<end_of_turn>\n"},
     .prompt = "<start_of_turn>model\n",
     .reply_end = "<end_of_turn>",
     .reply_tail = "\n",
     .system_in_user = true,
     .trims = true,
     .trims_assistant = true,
     .stops = {"<end_of_turn>"}},
    [STK_CHAT_DEEPSEEK_V2] = // deepseek-ai/DeepSeek-V2-Lite-Chat
    {.name = "deepseek2",
     .open = {"", "User: ", "Assistant: "},
     .close = {"\n\n", "\n\n"},
     .prompt = "Assistant:",
     .reply_end = DS_END,
     .reply_tail = "",
     .stops = {DS_END, "\nUser:"}},
    [STK_CHAT_DEEPSEEK_V3] = // deepseek-ai/DeepSeek-V3
    {.name = "deepseek3",
     .open = {"", DS_USER, DS_REPLY},
     .close = {"", ""},
     .prompt = DS_REPLY,
     .reply_end = DS_END,
     .reply_tail = "",
     .stops = {DS_END}},
    [STK_CHAT_DEEPSEEK_R1] = // deepseek-ai/DeepSeek-R1
    {.name = "deepseek-r1",
     .open = {"", DS_USER, DS_REPLY},
     .close = {"", ""},
     .prompt = DS_REPLY "<think>\n",
     .reply_end = DS_END,
     .reply_tail = "",
     .drops_thinking = true,
     .stops = {DS_END}},
    [STK_CHAT_PHI_3] = // microsoft/Phi-3.5-mini-instruct
    {.name = "phi3",
     .open = {"<|system|>\n", "<|user|>\n", "<|assistant|>\n"},
     .close = {"<|end|>\n", "<|end|>\n"},
     .prompt = "<|assistant|>\n",
     .reply_end = "<|end|>",
     .reply_tail = "\n",
     .stops = {"<|end|>"}},
    [STK_CHAT_PHI_4] = // microsoft/phi-4
    {.name = "phi4",
     .open = {PHI4("system"), PHI4("user"), PHI4("assistant")},
     .close = {"<|im_end|>", "<|im_end|>"},
     .prompt = PHI4("assistant"),
     .reply_end = "<|im_end|>",
     .reply_tail = "",
     .stops = {"<|im_end|>"}},
    [STK_CHAT_ZEPHYR] = // HuggingFaceH4/zephyr-7b-beta
    {.name = "zephyr",
     .open = {"<|system|>\n", "<|user|>\n", "<|assistant|>\n"},
     .close = {"</s>\n", "</s>\n"},
     .prompt = "<|assistant|>\n",
     .reply_end = "</s>",
     .reply_tail = "\n",
     .stops = {"</s>", "<|user|>"}},
    [STK_CHAT_STABLELM] = // stabilityai/stablelm-2-zephyr-1_6b
    {.name = "stablelm",
     .open = {"<|system|>\n", "<|user|>\n", "<|assistant|>\n"},
     .close = {"<|endoftext|>\n", "<|endoftext|>\n"},
     .prompt = "<|assistant|>\n",
     .reply_end = "<|endoftext|>",
     .reply_tail = "\n",
     .stops = {"<|endoftext|>"}},
    [STK_CHAT_COMMAND_R] = // CohereForAI/c4ai-command-r-plus
    {.name = "command-r",
     .open = {CR_TURN "<|SYSTEM_TOKEN|>", CR_TURN "<|USER_TOKEN|>", CR_TURN "<|CHATBOT_TOKEN|>"},
     .close = {CR_END, CR_END},
     .prompt = CR_TURN "<|CHATBOT_TOKEN|>",
     .reply_end = CR_END,
     .reply_tail = "",
     .trims = true,
     .trims_assistant = true,
     .stops = {CR_END}},
    [STK_CHAT_GRANITE] = // ibm-granite/granite-3.0-8b-instruct
    {.name = "granite",
     .open = {GR("system"), GR("user"), GR("assistant")},
     .close = {"<|end_of_text|>\n", "<|end_of_text|>\n"},
     .prompt = GR("assistant"),
     .reply_end = "<|end_of_text|>",
     .reply_tail = "\n",
     .stops = {"<|end_of_text|>"}},
    [STK_CHAT_HARMONY] = // openai/gpt-oss-20b: the chat's system text is its developer message
    {.name = "harmony",
     .open = {"<|start|>developer<|message|># Instructions\n\n", "<|start|>user<|message|>",
              "<|start|>assistant<|channel|>final<|message|>"},
     .close = {"<|end|>", "<|end|>"},
     .prompt = "<|start|>assistant",
     .reply_end = "<|end|>",
     .reply_tail = "",
     .stops = {"<|return|>", "<|call|>"}},
};

const stk_chat_marks stk_chat_marks_table[] = {
    {STK_CHAT_PHI_4, {"<|im_start|>", "<|im_sep|>"}, NULL},
    {STK_CHAT_CHATML, {"<|im_start|>"}, "<end_of_utterance>"},
    {STK_CHAT_HARMONY, {"<|start|>", "<|channel|>", "<|message|>"}, NULL},
    {STK_CHAT_MISTRAL_V7, {"[SYSTEM_PROMPT]", "[INST] "}, NULL},
    {STK_CHAT_MISTRAL_V7_TEKKEN, {"[SYSTEM_PROMPT]", "[INST]"}, NULL},
    {STK_CHAT_MISTRAL_V1, {"' [INST] ' + system_message"}, NULL},
    {STK_CHAT_MISTRAL_V3_TEKKEN, {"[AVAILABLE_TOOLS]", "\"[INST]\""}, NULL},
    {STK_CHAT_MISTRAL_V3, {"[AVAILABLE_TOOLS]", "[INST]"}, NULL},
    {STK_CHAT_LLAMA_2, {"[INST]", "<<SYS>>"}, NULL},
    {STK_CHAT_MISTRAL_V0, {"[INST]"}, NULL},
    {STK_CHAT_PHI_3, {"<|assistant|>", "<|end|>"}, NULL},
    {STK_CHAT_PHI_3, {"<|user|>", "<|end|>"}, NULL},
    {STK_CHAT_PHI_3, {"'<|' + message['role'] + '|>'", "<|end|>"}, NULL},
    {STK_CHAT_STABLELM, {"<|user|>", "<|endoftext|>"}, "[gMASK]"},
    {STK_CHAT_ZEPHYR, {"<|user|>", "<|assistant|>", "eos_token"}, "[gMASK]"},
    {STK_CHAT_GEMMA, {"<start_of_turn>"}, NULL},
    {STK_CHAT_COMMAND_R, {CR_TURN, "<|USER_TOKEN|>"}, NULL},
    {STK_CHAT_LLAMA_3, {"<|start_header_id|>", "<|end_header_id|>"}, NULL},
    {STK_CHAT_LLAMA_4, {"<|header_start|>", "<|header_end|>"}, NULL},
    {STK_CHAT_DEEPSEEK_R1, {DS_REPLY "<think>", DS_USER}, NULL},
    {STK_CHAT_DEEPSEEK_V3, {DS_REPLY, DS_USER}, NULL},
    {STK_CHAT_DEEPSEEK_V2, {"'User: '", "'Assistant: ' + message['content'] + eos_token"}, NULL},
    {STK_CHAT_GRANITE, {"<|start_of_role|>"}, NULL},
};

const size_t stk_chat_marks_count = sizeof stk_chat_marks_table / sizeof *stk_chat_marks_table;
