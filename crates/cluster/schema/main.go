// Prints the fields of the kinds that the cluster knows, one type a line, from Kubernetes' own Go types (names, optional
// or not, strategic merge) and from the OpenAPI document of a real API server (list and map types of server-side apply).
//
//	GOFLAGS=-mod=mod go run . openapi.json > ../src/api/schema.txt
//
// in a directory with the go.mod and go.sum of e2e/rig/go/kubernetes; openapi.json is what /openapi/v2 of a rig answers.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"sort"
	"strings"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
)

var roots = []any{
	corev1.Namespace{}, corev1.Node{}, corev1.ConfigMap{}, corev1.Secret{}, corev1.ServiceAccount{}, corev1.ResourceQuota{},
	corev1.Pod{}, corev1.Binding{}, appsv1.Deployment{}, appsv1.ReplicaSet{}, appsv1.StatefulSet{},
	appsv1.ControllerRevision{}, autoscalingv1.Scale{}, autoscalingv2.HorizontalPodAutoscaler{},
	policyv1.PodDisruptionBudget{}, policyv1.Eviction{}, coordinationv1.Lease{}, eventsv1.Event{},
	admissionregistrationv1.MutatingWebhookConfiguration{}, metav1.DeleteOptions{},
}

type property struct {
	ListType string          `json:"x-kubernetes-list-type"`
	Keys     []string        `json:"x-kubernetes-list-map-keys"`
	MapType  string          `json:"x-kubernetes-map-type"`
	Default  json.RawMessage `json:"default"`
}

type definition struct {
	MapType    string              `json:"x-kubernetes-map-type"`
	Properties map[string]property `json:"properties"`
}

var definitions = struct {
	Definitions map[string]definition `json:"definitions"`
}{}

var done = map[string]string{}

func openapi(t reflect.Type) definition {
	parts := strings.Split(t.PkgPath(), "/")
	host := strings.Split(parts[0], ".")
	for i, j := 0, len(host)-1; i < j; i, j = i+1, j-1 {
		host[i], host[j] = host[j], host[i]
	}
	name := strings.Join(append(host, append(parts[1:], t.Name())...), ".")
	found, ok := definitions.Definitions[name]
	if !ok {
		fmt.Fprintln(os.Stderr, "not in the document:", name)
	}
	return found
}

func named(t reflect.Type) string {
	name := t.Name()
	switch t.PkgPath() {
	case "k8s.io/api/autoscaling/v1", "k8s.io/api/autoscaling/v2", "k8s.io/api/events/v1",
		"k8s.io/api/admissionregistration/v1":
		parts := strings.Split(t.PkgPath(), "/")
		return parts[2] + "." + name
	}
	return name
}

func kind(t reflect.Type) string {
	switch t {
	case reflect.TypeOf(resource.Quantity{}):
		return "quantity"
	case reflect.TypeOf(metav1.Time{}):
		return "time"
	case reflect.TypeOf(metav1.MicroTime{}):
		return "microtime"
	case reflect.TypeOf(intstr.IntOrString{}):
		return "intstr"
	case reflect.TypeOf(runtime.RawExtension{}), reflect.TypeOf(metav1.FieldsV1{}):
		return "any"
	}
	switch t.Kind() {
	case reflect.String:
		return "string"
	case reflect.Bool:
		return "bool"
	case reflect.Int32, reflect.Int64, reflect.Int, reflect.Uint8:
		return t.Kind().String()
	case reflect.Pointer:
		return kind(t.Elem())
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			return "bytes"
		}
		return "[]" + kind(t.Elem())
	case reflect.Map:
		return "{}" + kind(t.Elem())
	case reflect.Struct:
		describe(t)
		return named(t)
	}
	panic(t.String())
}

func fields(t reflect.Type, doc definition, into *[]string) {
	for i := range t.NumField() {
		field := t.Field(i)
		tag := strings.Split(field.Tag.Get("json"), ",")
		if field.Anonymous && tag[0] == "" {
			fields(field.Type, doc, into)
			continue
		}
		if tag[0] == "-" || tag[0] == "" {
			continue
		}
		text := tag[0] + ":" + kind(field.Type)
		if field.Type.Kind() == reflect.Pointer {
			text += " pointer"
		}
		for _, option := range tag[1:] {
			if option == "omitempty" {
				text += " omitempty"
			}
			if option == "omitzero" {
				text += " omitzero"
			}
		}
		if strategy := field.Tag.Get("patchStrategy"); strategy != "" {
			text += " patch=" + strategy
		}
		if key := field.Tag.Get("patchMergeKey"); key != "" {
			text += " key=" + key
		}
		property := doc.Properties[tag[0]]
		if property.ListType != "" {
			text += " list=" + property.ListType
		}
		if len(property.Keys) > 0 {
			text += " keys=" + strings.Join(property.Keys, "+")
		}
		if property.MapType != "" {
			text += " map=" + property.MapType
		}
		if d := string(property.Default); d != "" && d != "{}" && d != `""` && d != "0" && d != "false" {
			text += " default=" + d
		}
		*into = append(*into, text)
	}
}

func describe(t reflect.Type) {
	name := named(t)
	if known, ok := done[name]; ok {
		if known != t.PkgPath() {
			panic("two types called " + name)
		}
		return
	}
	done[name] = t.PkgPath()
	var list []string
	doc := openapi(t)
	fields(t, doc, &list)
	line := name
	if doc.MapType != "" {
		line += " map=" + doc.MapType
	}
	lines = append(lines, line+"\n  "+strings.Join(list, "\n  "))
}

var lines []string

func main() {
	text, err := os.ReadFile(os.Args[1])
	if err != nil {
		panic(err)
	}
	if err := json.Unmarshal(text, &definitions); err != nil {
		panic(err)
	}
	for _, root := range roots {
		describe(reflect.TypeOf(root))
	}
	sort.Strings(lines)
	fmt.Println(strings.Join(lines, "\n"))
}
