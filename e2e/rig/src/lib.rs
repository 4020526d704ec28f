//! A real control plane on one machine: etcd, kube-apiserver, controller-manager, scheduler, KWOK, Karpenter.
