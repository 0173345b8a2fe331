// Drives OpenWhisk's REST API through the client library that wsk is made of, as wsk does.
//
// WSK_HOST and WSK_AUTH say where: the standalone, a test's stand-in, or any other OpenWhisk. The actions
// are Python; their first lines are for the stand-in, which does not run them.
package wsk

import (
	"encoding/json"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/apache/openwhisk-client-go/whisk"
)

const (
	echo = "# echo\ndef main(args):\n    print('hello from python')\n    return args\n"
	fail = "# fail\ndef main(args):\n    return {'error': 'no'}\n"
)

// How long an answer may take on a busy machine.
const patience = 120 * time.Second

func client(t *testing.T) *whisk.Client {
	t.Helper()
	host, auth := os.Getenv("WSK_HOST"), os.Getenv("WSK_AUTH")
	if host == "" || auth == "" {
		t.Fatal("WSK_HOST and WSK_AUTH must name an OpenWhisk and a key")
	}
	base, err := whisk.GetURLBase(host, "/api")
	check(t, err)
	c, err := whisk.NewClient(&http.Client{Timeout: patience}, &whisk.Config{
		Host: host, AuthToken: auth, BaseURL: base, Version: "v1", Namespace: "_",
	})
	check(t, err)
	return c
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Equal are values that are the same JSON: the library leaves numbers as texts.
func equal(t *testing.T, what string, got, expected interface{}) {
	t.Helper()
	is, err := json.Marshal(got)
	check(t, err)
	ought, err := json.Marshal(expected)
	check(t, err)
	if string(is) != string(ought) {
		t.Fatalf("%s: got %s, expected %s", what, is, ought)
	}
}

// A refused request has this text, and a transaction id.
func refused(t *testing.T, err error, text string) {
	t.Helper()
	if err == nil {
		t.Fatalf("expected to be refused with %q", text)
	}
	if !strings.Contains(err.Error(), text) || !strings.Contains(err.Error(), "(code ") {
		t.Fatalf("got %q, expected %q and a code", err, text)
	}
}

// create makes an action as `wsk action create` does, and removes it when the test is over.
func create(t *testing.T, c *whisk.Client, action whisk.Action) *whisk.Action {
	t.Helper()
	created, _, err := c.Actions.Insert(&action, false)
	check(t, err)
	t.Cleanup(func() { c.Actions.Delete(action.Name) })
	return created
}

func python(code string) *whisk.Exec {
	return &whisk.Exec{Kind: "python:default", Code: &code}
}

func TestPropertiesAreFoundOut(t *testing.T) {
	c := client(t)
	info, _, err := c.Info.Get()
	check(t, err)
	if info.Build == "" || info.BuildNo == "" {
		t.Fatalf("no build in %v", info)
	}
	namespaces, _, err := c.Namespaces.List()
	check(t, err)
	equal(t, "namespaces", len(namespaces), 1)
}

func TestAnActionIsCreatedReadChangedListedAndDeleted(t *testing.T) {
	c := client(t)
	memory, timeout, concurrency := 256, 30000, 1
	action := whisk.Action{
		Name:        "wsk_life",
		Exec:        python(echo),
		Annotations: whisk.KeyValueArr{{Key: "ffs", Value: map[string]interface{}{"slo_ms": 450.5}}},
		Parameters:  whisk.KeyValueArr{{Key: "name", Value: "world"}, {Key: "n", Value: 3}},
		Limits:      &whisk.Limits{Memory: &memory, Timeout: &timeout, Concurrency: &concurrency},
	}
	created := create(t, c, action)
	equal(t, "version", created.Version, "0.0.1")
	if !strings.HasPrefix(created.Exec.Kind, "python:3") {
		t.Fatalf("kind %s is not the default of python", created.Exec.Kind)
	}

	read, _, err := c.Actions.Get("wsk_life", true)
	check(t, err)
	equal(t, "code", *read.Exec.Code, echo)
	equal(t, "annotation ffs", read.Annotations.GetValue("ffs"), map[string]interface{}{"slo_ms": 450.5})
	equal(t, "annotation exec", read.Annotations.GetValue("exec"), created.Exec.Kind)
	equal(t, "memory", *read.Limits.Memory, 256)
	equal(t, "timeout", *read.Limits.Timeout, 30000)
	equal(t, "logs", *read.Limits.Logsize, 10)
	equal(t, "parameter", read.Parameters.GetValue("name"), "world")

	_, _, err = c.Actions.Insert(&action, false)
	refused(t, err, "resource already exists")
	more := 512
	change := whisk.Action{
		Name:           "wsk_life",
		DelAnnotations: []string{"ffs"},
		Annotations:    whisk.KeyValueArr{{Key: "note", Value: true}},
		Limits:         &whisk.Limits{Memory: &more},
	}
	changed, _, err := c.Actions.Insert(&change, true)
	check(t, err)
	equal(t, "version after the change", changed.Version, "0.0.2")
	equal(t, "annotation note", changed.Annotations.GetValue("note"), true)
	equal(t, "annotation ffs", changed.Annotations.GetValue("ffs"), nil)
	equal(t, "memory after the change", *changed.Limits.Memory, 512)
	equal(t, "timeout after the change", *changed.Limits.Timeout, 30000)

	listed, _, err := c.Actions.List("", &whisk.ActionListOptions{Limit: 200})
	check(t, err)
	found := 0
	for _, action := range listed {
		if action.Name == "wsk_life" {
			found++
			equal(t, "kind in the list", action.Annotations.GetValue("exec"), created.Exec.Kind)
		}
	}
	equal(t, "times listed", found, 1)

	_, err = c.Actions.Delete("wsk_life")
	check(t, err)
	_, _, err = c.Actions.Get("wsk_life", false)
	refused(t, err, "The requested resource does not exist.")
	_, err = c.Actions.Delete("wsk_life")
	refused(t, err, "The requested resource does not exist.")
}

func TestAnActionIsInvokedForItsResult(t *testing.T) {
	c := client(t)
	create(t, c, whisk.Action{
		Name:       "wsk_result",
		Exec:       python(echo),
		Parameters: whisk.KeyValueArr{{Key: "name", Value: "world"}, {Key: "n", Value: 3}},
	})
	result, _, err := c.Actions.Invoke("wsk_result", map[string]interface{}{"name": "you"}, true, true)
	check(t, err)
	equal(t, "result", result, map[string]interface{}{"name": "you", "n": 3})

	whole, _, err := c.Actions.Invoke("wsk_result", nil, true, false)
	check(t, err)
	activation := as[whisk.Activation](t, whole)
	equal(t, "success", activation.Response.Success, true)
	equal(t, "status", activation.Response.Status, "success")
	equal(t, "action", activation.Name, "wsk_result")
	equal(t, "length of the id", len(activation.ActivationID), 32)
}

func TestAnApplicationErrorIsTold(t *testing.T) {
	c := client(t)
	create(t, c, whisk.Action{Name: "wsk_fail", Exec: python(fail)})
	whole, _, err := c.Actions.Invoke("wsk_fail", nil, true, false)
	if failure, ok := err.(*whisk.WskError); !ok || !failure.ApplicationError {
		t.Fatalf("expected an application error, not %v", err)
	}
	activation := as[whisk.Activation](t, whole)
	equal(t, "status", activation.Response.Status, "application error")
	result, _, err := c.Actions.Invoke("wsk_fail", nil, true, true)
	if err == nil {
		t.Fatal("expected an application error")
	}
	equal(t, "result", result, map[string]interface{}{"error": "no"})
}

func TestAnActivationIsListedAndReadWithResultAndLogs(t *testing.T) {
	c := client(t)
	create(t, c, whisk.Action{Name: "wsk_record", Exec: python(echo)})
	answer, response, err := c.Actions.Invoke("wsk_record", map[string]interface{}{"a": 1}, false, false)
	check(t, err)
	equal(t, "status", response.StatusCode, http.StatusAccepted)
	id := as[whisk.Activation](t, answer).ActivationID

	activation := eventually(t, func() (*whisk.Activation, error) {
		activation, _, err := c.Activations.Get(id)
		return activation, err
	})
	equal(t, "result", *activation.Response.Result, map[string]interface{}{"a": 1})
	equal(t, "path", activation.Annotations.GetValue("path"), activation.Namespace+"/wsk_record")
	result, _, err := c.Activations.Result(id)
	check(t, err)
	equal(t, "success", result.Success, true)
	logs, _, err := c.Activations.Logs(id)
	check(t, err)
	if all := strings.Join(logs.Logs, "\n"); !strings.Contains(all, " stdout: hello from") {
		t.Fatalf("the line is not in the logs: %q", all)
	}

	options := whisk.ActivationListOptions{Name: "wsk_record", Limit: 10}
	listed, _, err := c.Activations.List(&options)
	check(t, err)
	equal(t, "activations of the action", len(listed), 1)
	equal(t, "id in the list", listed[0].ActivationID, id)
	equal(t, "status in the list", listed[0].StatusCode, 0)
	options.Since = listed[0].Start + 1
	later, _, err := c.Activations.List(&options)
	check(t, err)
	equal(t, "later activations", len(later), 0)
	_, _, err = c.Activations.Get(strings.Repeat("0", 32))
	refused(t, err, "The requested resource does not exist.")
}

func TestWhatIsWrongIsTold(t *testing.T) {
	c := client(t)
	huge, code := 1<<20, "x = 1"
	_, _, err := c.Actions.Insert(&whisk.Action{
		Name: "wsk_bad", Exec: python(code), Limits: &whisk.Limits{Memory: &huge},
	}, false)
	refused(t, err, "requirement failed: memory size 1048576 MB exceeds allowed threshold of")
	_, _, err = c.Actions.Insert(&whisk.Action{Name: "wsk_bad", Exec: &whisk.Exec{Kind: "ruby:0", Code: &code}}, false)
	refused(t, err, "The specified runtime 'ruby:0' is not supported by this platform.")
	c.Config.AuthToken = "00000000-0000-0000-0000-000000000000:" + strings.Repeat("x", 64)
	_, _, err = c.Actions.Get("wsk_bad", false)
	refused(t, err, "The supplied authentication is invalid")
}

// Reads what the library leaves as maps.
func as[T any](t *testing.T, value interface{}) T {
	t.Helper()
	var typed T
	text, err := json.Marshal(value)
	check(t, err)
	check(t, json.Unmarshal(text, &typed))
	return typed
}

// A record is written some time after its answer.
func eventually[T any](t *testing.T, try func() (T, error)) T {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		value, err := try()
		if err == nil {
			return value
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}
