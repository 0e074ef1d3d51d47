"""A deep agent: its subagents are segments of the path, and one of them is private.

pip install "deepagents>=0.4"   # older ones give their subagents no names
python examples/deep_agent.py
"""

from pathlib import Path

from deepagents import create_deep_agent
from offline import calls, model, told

from langchain_mlflow_cost import configure

handler = configure(Path(__file__).with_suffix(".yaml"))
agent = create_deep_agent(
    model=model(calls("task", description="Read the file.", subagent_type="reader"), "It is done."),
    tools=[],
    system_prompt="You lead a team.",
    subagents=[
        {
            "name": "reader",
            "description": "Reads personal files.",
            "system_prompt": "You read files.",
            "model": model("The patient has hyperlobulated spondylarthrosis."),
            "tools": [],
        }
    ],
)
answer = agent.invoke({"messages": [("user", "Read the file.")]}, config={"callbacks": [handler]})

summary = handler.summary()
print(told(answer["messages"]))
print(summary)
